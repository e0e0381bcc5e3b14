//! When a silent session's shared filters are subscribed to once more: to remind a broker that forgot to send.
//!
//! HiveMQ CE looks into the queue of a share group when a reading enters the *empty* queue, when the acks of a session are all
//! there, and when a client connects or subscribes. What was in flight when it was killed stays in that queue, in nobody's reach: it
//! is never empty again, and a session that has caught up once hears nothing more (hivemq-community-edition#558 tells of the same
//! under load). Subscribing again to what one is subscribed to is harmless [MQTT-3.8.4-3] and makes it look.

use std::time::{Duration, Instant};

/// Silence before the first reminder.
const FIRST: Duration = Duration::from_secs(1);
/// Pause between reminders of a session that stays silent: they cost no more than its keep-alive.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Reminder {
    due: Instant,
    pause: Duration,
    /// How many readings had come when it last looked.
    received: u64,
}

impl Reminder {
    pub(super) fn new(received: u64, now: Instant) -> Self {
        Self { due: now + FIRST, pause: FIRST, received }
    }

    /// When [`tick`](Self::tick) must be called at the latest.
    pub(super) fn deadline(&self) -> Instant {
        self.due
    }

    /// True: remind the broker. `received`: readings that have ever come; `waits`: nothing but the broker keeps readings from coming.
    pub(super) fn tick(&mut self, received: u64, waits: bool, now: Instant) -> bool {
        if received != self.received {
            // It is looked at once in a pause and not at every reading, so a silence is told after one pause, or nearly two.
            (self.received, self.pause) = (received, FIRST);
            self.due = now + FIRST;
        } else if now >= self.due {
            if waits {
                self.pause = (2 * self.pause).min(LONGEST);
            }
            self.due = now + self.pause;
            return waits;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn reminds_after_a_second_of_silence_and_then_ever_more_rarely() {
        let start = Instant::now();
        let mut reminder = Reminder::new(7, start);
        let mut reminded = Vec::new();
        for second in 1..=300_u32 {
            if reminder.tick(7, true, start + second * SECOND) {
                reminded.push(second);
            }
        }
        assert_eq!(reminded, [1, 3, 7, 15, 31, 63, 123, 183, 243]);
    }

    #[test]
    fn readings_start_it_anew() {
        let start = Instant::now();
        let mut reminder = Reminder::new(0, start);
        assert!(reminder.tick(0, true, start + SECOND));
        assert!(!reminder.tick(5, true, start + 3 * SECOND));
        assert_eq!(reminder.deadline(), start + 4 * SECOND);
        assert!(reminder.tick(5, true, start + 4 * SECOND));
    }

    #[test]
    fn a_silence_of_our_own_making_is_none() {
        let start = Instant::now();
        let mut reminder = Reminder::new(0, start);
        assert!(!reminder.tick(0, false, start + SECOND));
        assert_eq!(reminder.deadline(), start + 2 * SECOND, "it is asked again, but not at once");
        assert!(reminder.tick(0, true, start + 2 * SECOND));
    }
}
