//! Keep-alive [MQTT-3.1.2-20]: PINGREQ twice per keep-alive, whatever else is sent, and an end to a connection that answers nothing.
//!
//! Silence counts only while we read: under back-pressure the PINGRESP waits in the socket behind readings.

use std::time::{Duration, Instant};

use super::error::SessionError;

#[derive(Debug)]
pub(super) struct KeepAlive {
    /// Half of the keep-alive in force: PINGREQ at this interval cannot come too late, and an answer has as long.
    interval: Option<Duration>,
    ping_due: Instant,
    /// PINGREQ has not been answered.
    is_asked: bool,
    /// PINGREQ written and PINGRESP come on this connection: answers come in the order of the questions.
    written: u64,
    come: u64,
    /// The last question out of turn, by its number among all, and when it was asked.
    question: Option<(u64, Instant)>,
    /// Since when we read and hear nothing.
    silent_since: Instant,
    was_reading: bool,
}

impl KeepAlive {
    pub(super) fn new(keep_alive: Duration, now: Instant) -> Self {
        let interval = (!keep_alive.is_zero()).then_some(keep_alive / 2);
        let ping_due = now + interval.unwrap_or_default();
        Self {
            interval,
            ping_due,
            is_asked: false,
            written: 0,
            come: 0,
            question: None,
            silent_since: now,
            was_reading: true,
        }
    }

    #[inline]
    pub(super) fn heard(&mut self, now: Instant) {
        self.silent_since = now;
    }

    pub(super) fn answered(&mut self) {
        self.is_asked = false;
        self.come += 1;
    }

    /// A PINGREQ is written out of turn.
    pub(super) fn ask(&mut self, now: Instant) {
        self.note_written(now);
        self.question = Some((self.written, now));
    }

    /// When the last question was asked, and whether it is answered.
    pub(super) fn question(&self) -> Option<(Instant, bool)> {
        self.question.map(|(number, asked_at)| (asked_at, number <= self.come))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let interval = self.interval?;
        let is_counting = self.is_asked && self.was_reading;
        Some(if is_counting { self.ping_due.min(self.silent_since + interval) } else { self.ping_due })
    }

    /// True: send PINGREQ.
    pub(super) fn tick(&mut self, now: Instant, is_reading: bool) -> Result<bool, SessionError> {
        let Some(interval) = self.interval else { return Ok(false) };
        if !self.was_reading || !is_reading {
            self.silent_since = now;
        }
        self.was_reading = is_reading;
        if self.is_asked && is_reading && now >= self.silent_since + interval {
            return Err(SessionError::NoAnswer { what: "PINGRESP", after: interval });
        }
        if now < self.ping_due {
            return Ok(false);
        }
        self.ping_due = now + interval;
        self.note_written(now);
        Ok(true)
    }

    fn note_written(&mut self, now: Instant) {
        self.written += 1;
        // The silence that an unanswered ping is measured by starts with it.
        if !std::mem::replace(&mut self.is_asked, true) {
            self.silent_since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pings_twice_per_keep_alive_and_gives_up_on_silence() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(10 * SECOND, start);
        assert_eq!(keep_alive.deadline(), Some(start + 5 * SECOND));
        assert_eq!(keep_alive.tick(start + 4 * SECOND, true), Ok(false));
        assert_eq!(keep_alive.tick(start + 5 * SECOND, true), Ok(true));
        keep_alive.answered();
        assert_eq!(keep_alive.tick(start + 10 * SECOND, true), Ok(true));
        assert!(keep_alive.tick(start + 15 * SECOND, true).is_err());
    }

    #[test]
    fn silence_does_not_count_while_we_do_not_read() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(10 * SECOND, start);
        assert_eq!(keep_alive.tick(start + 5 * SECOND, true), Ok(true));
        for second in 6..60 {
            assert!(keep_alive.tick(start + second * SECOND, false).is_ok());
        }
        assert!(keep_alive.tick(start + 60 * SECOND, true).is_ok());
        assert!(keep_alive.tick(start + 64 * SECOND, true).is_ok());
        assert!(keep_alive.tick(start + 65 * SECOND, true).is_err());
    }

    #[test]
    fn a_question_is_answered_by_its_own_answer_not_by_an_earlier_ones() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(10 * SECOND, start);
        assert_eq!(keep_alive.tick(start + 5 * SECOND, true), Ok(true));
        keep_alive.ask(start + 6 * SECOND);
        keep_alive.answered();
        assert_eq!(keep_alive.question(), Some((start + 6 * SECOND, false)));
        keep_alive.answered();
        assert_eq!(keep_alive.question(), Some((start + 6 * SECOND, true)));
    }

    #[test]
    fn no_keep_alive_no_pings() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(Duration::ZERO, start);
        assert_eq!(keep_alive.deadline(), None);
        assert_eq!(keep_alive.tick(start + 1_000 * SECOND, true), Ok(false));
    }
}
