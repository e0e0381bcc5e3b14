//! When a silent session's shared filters are subscribed to once more: to remind a broker that forgot to send.
//!
//! HiveMQ CE looks into the queue of a share group when a reading enters the *empty* queue, when the acks of a session are all
//! there, and when a client connects or subscribes. What was in flight when it was killed stays in that queue, in nobody's reach: it
//! is never empty again, and a session that has caught up once hears nothing more (hivemq-community-edition#558 tells of the same
//! under load). To subscribe again to what one is subscribed to makes it look, and changes nothing else: no session of a share group
//! is sent retained messages (MQTT 5 section 4.8.2), which is why plain filters are left alone.

use std::time::{Duration, Instant};

/// Silence before the first reminder.
const FIRST: Duration = Duration::from_secs(1);
/// Pause between reminders of a session that stays silent: they cost no more than its keep-alive.
const LONGEST: Duration = Duration::from_secs(60);
/// How late it may notice that a long silence had ended.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Reminder {
    /// Readings that had come when it last looked: it looks now and then, and not at every reading.
    received: u64,
    /// Since the last reading that it knows of, the last reminder, or the last look at which it was not the broker that was silent.
    silent_since: Instant,
    /// Silence before the next reminder.
    pause: Duration,
    look_at: Instant,
}

impl Reminder {
    pub(super) fn new(received: u64, now: Instant) -> Self {
        Self { received, silent_since: now, pause: FIRST, look_at: now + FIRST }
    }

    /// When [`tick`](Self::tick) must be called at the latest.
    pub(super) fn deadline(&self) -> Instant {
        self.look_at
    }

    /// True: remind the broker. `received`: readings that have ever come; `waits`: nothing but the broker keeps readings from coming.
    pub(super) fn tick(&mut self, received: u64, waits: bool, now: Instant) -> bool {
        let has_moved = received != self.received;
        let reminds = !has_moved && waits && now >= self.silent_since + self.pause;
        if has_moved {
            (self.received, self.pause) = (received, FIRST);
        } else if reminds {
            self.pause = (2 * self.pause).min(LONGEST);
        }
        if has_moved || reminds || !waits {
            self.silent_since = now;
        }
        let left = (self.silent_since + self.pause).saturating_duration_since(now);
        // After a reminder it looks soon: what that brought starts the pauses anew.
        self.look_at = now + if reminds { FIRST } else { left.clamp(FIRST, LOOK) };
        reminds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The seconds of reminders up to `until`, with `received` readings at each second.
    fn reminded(until: u32, received: impl Fn(u32) -> u64, waits: impl Fn(u32) -> bool) -> Vec<u32> {
        let start = Instant::now();
        let mut reminder = Reminder::new(received(0), start);
        let mut reminded = Vec::new();
        for second in 1..=until {
            let now = start + second * SECOND;
            if now >= reminder.deadline() && reminder.tick(received(second), waits(second), now) {
                reminded.push(second);
            }
            assert!(
                reminder.deadline() > now && reminder.deadline() <= now + LOOK,
                "it is looked at soon, and not at once"
            );
        }
        reminded
    }

    #[test]
    fn reminds_after_a_second_of_silence_and_then_ever_more_rarely() {
        let expected = [1, 3, 7, 15, 31, 63, 123, 183, 243];
        assert_eq!(reminded(300, |_| 7, |_| true), expected);
    }

    #[test]
    fn a_silence_after_a_long_one_is_told_within_seconds() {
        let reminded = reminded(140, |second| u64::from(second.clamp(125, 127)), |_| true);
        let first = reminded.iter().find(|second| **second > 127).copied();
        assert!(first.is_some_and(|second| second <= 127 + 1 + 5), "{reminded:?}");
    }

    #[test]
    fn who_gets_readings_is_not_reminded() {
        assert!(reminded(100, u64::from, |_| true).is_empty());
    }

    #[test]
    fn a_silence_of_our_own_making_is_none() {
        // After the first reminder two seconds of silence are due.
        assert_eq!(reminded(30, |_| 0, |second| second == 1 || second > 20), [1, 22, 26]);
    }
}
