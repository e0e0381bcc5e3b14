//! One turn of a connection: write what there is, read what has come, stage what it holds.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::BytesMut;

use super::{core::Core, driver::Close, failures, shard::Shard};
use crate::pipeline::source::{
    connection::Connection,
    session::{Event, SessionError},
};

/// A packet that has begun and is longer than this is gathered in the shard's own buffer: going through the lane's, every
/// read would copy what has come of it so far.
const GATHER_BYTES: usize = 64 * 1024;

/// What came of a turn: events, in order, then perhaps the end of the connection.
#[derive(Debug, Default)]
pub(super) struct Turned {
    pub(super) events: Vec<Event>,
    pub(super) close: Option<Close>,
}

impl Turned {
    pub(super) fn closed(close: Close) -> Self {
        Self { events: Vec::new(), close: Some(close) }
    }
}

/// Writes the shard's `out` as far as the socket takes it; true: something was there, and all of it is written.
pub(super) fn write(cx: &mut Context<'_>, connection: &mut Connection, shard: &mut Shard) -> Result<bool, Close> {
    let was_empty = shard.out.is_empty();
    match connection.poll_write_from(cx, &mut shard.out) {
        Poll::Ready(Err(error)) => {
            let why = format!("the connection to the MQTT broker can no longer be written to: {error}");
            Err(Close::Lost { why, is_retryable: true })
        }
        Poll::Ready(Ok(())) | Poll::Pending => Ok(!was_empty && shard.out.is_empty()),
    }
}

/// Reads once, unless something was held back, and hands over everything whole; pending when nothing has come.
pub(super) fn read(
    cx: &mut Context<'_>,
    connection: &mut Connection,
    core: &Rc<Core>,
    shard: &Rc<RefCell<Shard>>,
) -> Poll<Turned> {
    let mut own = std::mem::take(&mut shard.borrow_mut().rest);
    let polled = if shard.borrow().holds_back {
        Poll::Ready(receive(Ok(own.len()), core, shard, &mut own))
    } else if own.len() > GATHER_BYTES {
        let polled = connection.poll_read_into(cx, &mut own);
        polled.map(|bytes| receive(bytes, core, shard, &mut own))
    } else {
        let mut input = core.input.borrow_mut();
        input.clear();
        input.extend_from_slice(&own);
        let polled = connection.poll_read_into(cx, &mut input);
        polled.map(|bytes| {
            let received = receive(bytes, core, shard, &mut input);
            own.clear();
            own.extend_from_slice(&input);
            received
        })
    };
    if own.is_empty() && own.capacity() > GATHER_BYTES {
        // One long packet must not keep its room for ever.
        own = BytesMut::new();
    }
    shard.borrow_mut().rest = own;
    polled
}

pub(super) fn receive(
    bytes: io::Result<usize>,
    core: &Rc<Core>,
    shard: &Rc<RefCell<Shard>>,
    input: &mut BytesMut,
) -> Turned {
    match bytes {
        Ok(0) => {
            let why = "the MQTT broker closed the connection".to_owned();
            return Turned::closed(Close::Lost { why, is_retryable: true });
        }
        Ok(_) => {}
        Err(error) => return Turned::closed(broke(&error)),
    }
    let (mut events, now) = (Vec::new(), Instant::now());
    let (mut received, place, slot) = {
        let mut data = shard.borrow_mut();
        let place = Rc::clone(&data.place);
        let received = data.receive(input, now, &mut place.sink.borrow_mut(), &mut events);
        (received, place, data.slot)
    };
    core.flush(&place, slot);
    shard.borrow().count(&received);
    if !received.unroutable.is_empty() {
        failures::unroutable(core, &place, &mut shard.borrow_mut(), std::mem::take(&mut received.unroutable));
    }
    let close = match received.error {
        None => None,
        // The broker would send it again, with everything before it, at every connection.
        Some(error @ SessionError::PacketTooLarge { .. }) => {
            shard.borrow_mut().fail(format!("{error}; then pause and resume the pipeline"), false);
            None
        }
        Some(error) => Some(lost(error)),
    };
    Turned { events, close }
}

fn broke(error: &io::Error) -> Close {
    Close::Lost { why: format!("the connection to the MQTT broker broke: {error}"), is_retryable: true }
}

/// The session cannot go on with this connection.
#[expect(clippy::needless_pass_by_value, reason = "used as a function of map_err")]
pub(super) fn lost(error: SessionError) -> Close {
    Close::Lost { why: error.to_string(), is_retryable: error.is_retryable() }
}
