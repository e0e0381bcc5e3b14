//! What a task is for, and when it has come to its end. PURE.

use std::time::{Duration, Instant};

use crate::pipeline::source::session::Version;

/// After UNSUBSCRIBE a broker may still send what it had queued [MQTT-3.10.4]; when it has sent nothing for so long, and then answers
/// a question and still has sent nothing, it has nothing more. Without the answer the silence may be the network's, or this node's own.
pub const QUIET: Duration = Duration::from_secs(10);

/// Connections that are tried before a session that may be thrown away is left to the broker: three to six seconds, and what the
/// connections themselves take.
const DISCARD_ATTEMPTS: usize = 6;

/// The same for a session that the broker has probably never had: two minutes. If it has one, it is a broker that restarts.
const RETIRE_ATTEMPTS: usize = 30;

/// What a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Carry readings.
    Run,
    /// Unsubscribe, deliver what still comes, end the session.
    Retire,
    /// End the session at once; what the broker queues is lost.
    Discard,
}

/// Stop, keeping the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// When to stop waiting for what is in flight.
    pub deadline: Instant,
}

/// How a task came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Asked to; `is_clean`: nothing was left in flight.
    Stopped {
        /// Nothing was left in flight.
        is_clean: bool,
    },
    /// The session is ended at the broker.
    Retired,
    /// It cannot go on; the status says why.
    Failed {
        /// Trying again makes sense.
        may_pass: bool,
    },
}

/// How a task stands that has a connection.
#[derive(Debug, Clone, Copy)]
pub struct Serving {
    /// What it is for.
    pub purpose: Purpose,
    /// It was told to stop.
    pub stop: Option<Stop>,
    /// The broker has accepted the connection.
    pub is_serving: bool,
    /// And has not ended it.
    pub is_connected: bool,
    /// It has answered every SUBSCRIBE and UNSUBSCRIBE.
    pub is_settled: bool,
    /// Nothing is in flight, and every ack has been written.
    pub is_idle: bool,
    /// When a reading last came, was delivered, or was in flight.
    pub last_moved: Instant,
    /// When the broker was last asked whether it is there, and whether it has answered.
    pub question: Option<(Instant, bool)>,
}

impl Serving {
    /// Its end, if there is nothing more to do.
    pub fn end(&self, now: Instant) -> Option<End> {
        if let Some(stop) = self.stop {
            let is_over = self.is_idle || now >= stop.deadline || !self.is_connected;
            return is_over.then_some(End::Stopped { is_clean: self.is_idle });
        }
        match self.purpose {
            Purpose::Discard if self.is_serving => Some(End::Retired),
            Purpose::Retire if self.is_quiet(now) => {
                self.question.is_some_and(|(_, is_answered)| self.is_asked() && is_answered).then_some(End::Retired)
            }
            _ => None,
        }
    }

    /// Whether the broker is to be asked now: it may have nothing more.
    pub fn asks(&self, now: Instant) -> bool {
        self.stop.is_none() && self.purpose == Purpose::Retire && self.is_quiet(now) && !self.is_asked()
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.is_serving && self.is_settled && self.is_idle && now >= self.last_moved + QUIET
    }

    /// The broker was asked in this silence, not in one before.
    fn is_asked(&self) -> bool {
        self.question.is_some_and(|(asked_at, _)| asked_at >= self.last_moved + QUIET)
    }
}

/// Whether a connection that was lost may have been lost to another client that took the session. `is_retryable`: by the broker's word it
/// was not.
pub fn may_be_taken_over(is_retryable: bool, version: Version, was_accepted: bool) -> bool {
    // MQTT 3.1.1 ends the old connection of a session that is taken over without a word [MQTT-3.1.4-2].
    !is_retryable || version == Version::V311 && was_accepted
}

/// Whether a pipeline may go although its session could not be ended: the broker has probably none, or the user has said that
/// what it holds may be lost, and the broker does not answer. `attempt`: connections tried before the one that failed.
pub fn may_leave_behind(purpose: Purpose, was_open: bool, attempt: usize) -> bool {
    match purpose {
        Purpose::Run => false,
        // A node may have died after the broker's answer and before its word of it.
        Purpose::Retire => !was_open && attempt + 1 >= RETIRE_ATTEMPTS,
        Purpose::Discard => attempt + 1 >= DISCARD_ATTEMPTS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_ends_a_session_only_when_the_broker_has_answered_in_it() {
        let start = Instant::now();
        let serving = Serving {
            purpose: Purpose::Retire,
            stop: None,
            is_serving: true,
            is_connected: true,
            is_settled: true,
            is_idle: true,
            last_moved: start,
            question: None,
        };
        let (early, quiet) = (start + QUIET / 2, start + QUIET);
        assert!(!serving.asks(early) && serving.asks(quiet));
        assert_eq!(serving.end(start + 10 * QUIET), None, "the process may have been paused all the while");
        let asked = Serving { question: Some((quiet, false)), ..serving };
        assert!(!asked.asks(quiet));
        assert_eq!(asked.end(start + 10 * QUIET), None);
        let answered = Serving { question: Some((quiet, true)), ..serving };
        assert_eq!(answered.end(quiet), Some(End::Retired));
        let moved = Serving { last_moved: quiet, ..answered };
        assert_eq!(moved.end(quiet + QUIET), None, "the answer is of an earlier silence");
        assert!(moved.asks(quiet + QUIET));
    }
}
