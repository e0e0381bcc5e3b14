//! How a shard leaves its MQTT broker: the session kept, or ended.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::time::timeout;

use super::{
    course::End,
    driver::{Close, Driver},
};
use crate::pipeline::source::{
    connection::Connection,
    session::{Ending, Session},
};

/// How long a goodbye may take to be written.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

impl Driver {
    /// Says goodbye as the close asks for, on the connection of this attempt.
    pub(super) async fn close(&self, mut connection: Connection, close: Close, attempt: usize) -> Close {
        let ending = {
            let mut shard = self.shard.borrow_mut();
            let shard = &mut *shard;
            match &close {
                Close::Ended(End::Stopped { .. }) => {
                    shard.session.disconnect(&mut shard.out);
                    Some(Ending::Done)
                }
                Close::Ended(End::Retired) => Some(shard.session.end(&mut shard.out)),
                // Unacknowledged readings are to come again: the connection is dropped without a word.
                _ => None,
            }
        };
        if let Some(ending) = ending {
            let mut out = std::mem::take(&mut self.shard.borrow_mut().out);
            let written = timeout(GOODBYE_WITHIN, connection.write_from(&mut out)).await;
            let is_written = matches!(written, Ok(Ok(())));
            if is_written {
                // The goodbye is with the kernel; what comes of the rest changes nothing.
                let _ = timeout(GOODBYE_WITHIN, connection.close()).await;
            } else if matches!(close, Close::Ended(End::Retired)) {
                // A session that nobody ended would stay at the broker for ever, and in its share group.
                let why = "the MQTT broker did not take the end of the session".to_owned();
                return Close::Lost { why, is_retryable: true };
            }
            if ending == Ending::NeedsCleanConnection {
                return self.end_by_clean_connection(close, attempt).await;
            }
        }
        close
    }

    /// MQTT 3.1.1 ends a session by connecting clean and disconnecting.
    async fn end_by_clean_connection(&self, close: Close, attempt: usize) -> Close {
        if !self.may_connect(None).await {
            return Close::Ended(End::Stopped { is_clean: self.is_idle() });
        }
        let ended = async {
            let mut session = Session::new(self.setup.ending_settings()).map_err(|error| error.to_string())?;
            let mut connection = self.setup.connector.connect(attempt).await.map_err(|error| error.to_string())?;
            self.check_permit()?;
            let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
            session.connect(Instant::now(), &mut out).map_err(|error| error.to_string())?;
            connection.write_from(&mut out).await.map_err(|error| error.to_string())?;
            while !session.is_connected() {
                let read = connection.read_into(&mut input).await.map_err(|error| error.to_string())?;
                if read == 0 {
                    return Err("the MQTT broker closed the connection".to_owned());
                }
                session.next(&mut input, Instant::now(), &mut out).map_err(|error| error.to_string())?;
            }
            session.disconnect(&mut out);
            connection.write_from(&mut out).await.map_err(|error| error.to_string())?;
            connection.close().await.map_err(|error| error.to_string())
        };
        match timeout(2 * self.job.manifest.source.connect_timeout, ended).await {
            Ok(Ok(())) => close,
            Ok(Err(why)) => Close::Lost { why, is_retryable: true },
            Err(_) => Close::Lost {
                why: "the MQTT broker did not let the session end in time".to_owned(),
                is_retryable: true,
            },
        }
    }
}
