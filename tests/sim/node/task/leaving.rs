//! How a task leaves its connection: with a goodbye, by a clean connection that ends the session, or because it was lost.

use std::time::{Duration, Instant};

use sluice_node::{
    lane::course::{End, may_be_taken_over, may_leave_behind},
    pipeline::source::session::{Ending, Session, Settings},
    registry::State as Status,
    task::claim::Standing,
};

use super::{Close, Phase, Surroundings, Task};
use crate::{around::Around, broker::ConnectionNo, fact::Fact, setup::millis};

impl Task {
    pub(super) fn goodbye(&mut self, connection: ConnectionNo, end: End, around: &mut Around) -> Close {
        around.facts.push(Fact::Left { unacked: self.session.unacked() });
        let ending = match end {
            End::Stopped { .. } => {
                self.session.disconnect(&mut self.out);
                Ending::Done
            }
            End::Retired => self.session.end(&mut self.out),
            End::Failed { .. } => Ending::Done,
        };
        self.write(connection, around);
        around.mqtt.close(connection, around.now);
        if ending == Ending::NeedsCleanConnection { Close::Cleans } else { Close::Ended(end) }
    }

    /// Ends the session by a clean connection.
    pub(super) fn clean(&mut self, here: Surroundings<'_>, around: &mut Around) -> Option<End> {
        let Phase::Cleaning { connection, session, until } = &mut self.phase else {
            match self.standing(here, None, around) {
                Standing::NotMine => return Some(End::Stopped { is_clean: self.is_idle() }),
                Standing::Waits => return None,
                Standing::MayConnect => {}
            }
            around.facts.push(Fact::Connects { peer: self.peer.clone() });
            let reached = around.net.reaches_broker(self.peer.node);
            let opened = if reached { around.mqtt.open(self.peer.clone(), around.now) } else { None };
            let Some(connection) = opened else { return self.lost(0, true, around) };
            let settings = Settings { ends_session: true, ..self.settings.clone() };
            let mut session = Box::new(Session::new(settings).expect("settings that MQTT can express"));
            self.out.clear();
            session.connect(around.instant(), &mut self.out).expect("CONNECT can be written");
            self.phase = Phase::Cleaning { connection, session, until: around.now + 10_000 };
            self.input.clear();
            self.write(connection, around);
            return None;
        };
        let connection = *connection;
        let is_late = around.now >= *until;
        let is_read = !around.net.reaches_broker(self.peer.node)
            || around.mqtt.read(connection, &mut self.input, around.now)
                && session.next(&mut self.input, around.setup.clock.at(around.now), &mut self.out).is_ok();
        if is_late || !is_read {
            return self.lost(connection, true, around);
        }
        if session.is_connected() {
            session.disconnect(&mut self.out);
            self.write(connection, around);
            around.mqtt.close(connection, around.now);
            return Some(End::Retired);
        }
        None
    }

    /// A connection that was lost; 0: it was not made.
    pub(super) fn lost(&mut self, connection: ConnectionNo, is_retryable: bool, around: &mut Around) -> Option<End> {
        if connection > 0 {
            around.facts.push(Fact::Left { unacked: self.session.unacked() });
            around.mqtt.close(connection, around.now);
        }
        let accepted_at = self.accepted_at.take();
        if let Some(accepted_at) = accepted_at {
            self.backoff.ended(Duration::from_millis(around.now - accepted_at));
        }
        let is_taken_over = may_be_taken_over(is_retryable, around.setup.version, accepted_at.is_some());
        let was_open = self.meters.session().is_some_and(|session| session.is_open);
        if may_leave_behind(self.desired.purpose, was_open, self.attempt) {
            around.facts.push(Fact::LeftBehind { client_id: self.settings.client_id.clone() });
            return Some(End::Retired);
        }
        self.wait(is_retryable, is_taken_over.then(|| around.instant()), around);
        None
    }

    /// Until the next try to connect.
    pub(super) fn wait(&mut self, is_retryable: bool, taken_over_at: Option<Instant>, around: &mut Around) {
        self.attempt += 1;
        self.session.connection_lost();
        self.input.clear();
        self.out.clear();
        self.is_serving = false;
        self.meters.set_status(Status::Connecting, "");
        let random = around.chance.any();
        let wait = if is_retryable { self.backoff.wait(random) } else { self.backoff.longest(random) };
        self.phase = Phase::Waiting { until: around.now + millis(wait), taken_over_at };
    }
}
