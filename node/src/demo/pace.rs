//! When the next readings are due. Pure.

use std::time::Duration;

/// Readings owed for longer than this, beyond the first, are forgiven: a sensor that was held up does not burst afterwards.
const DEBT_MAX: Duration = Duration::from_millis(100);

/// An even rate.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: f64,
    /// Everything due until then has been sent or forgiven.
    settled: Duration,
}

impl Pace {
    /// `per_second` readings a second from `start` on.
    pub(super) fn new(per_second: f64, start: Duration) -> Self {
        Self { per_second, settled: start }
    }

    /// How many readings are due at `now`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most a tenth of a second's readings, and one"
    )]
    pub(super) fn due(&mut self, now: Duration) -> usize {
        // A slow sensor owes its reading for as long as the next one takes to fall due.
        let debt_max = DEBT_MAX + Duration::from_secs_f64(1.0 / self.per_second);
        self.settled = self.settled.max(now.saturating_sub(debt_max));
        (now.saturating_sub(self.settled).as_secs_f64() * self.per_second) as usize
    }

    /// `count` readings have been sent.
    #[expect(clippy::cast_precision_loss, reason = "counts of one turn are small")]
    pub(super) fn sent(&mut self, count: usize) {
        self.settled += Duration::from_secs_f64(count as f64 / self.per_second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_as_many_readings_as_the_rate_says() {
        let mut pace = Pace::new(1_500.0, Duration::from_secs(7));
        let mut sent = 0;
        for ms in (0..=1_000).step_by(5) {
            let due = pace.due(Duration::from_millis(7_000 + ms));
            pace.sent(due);
            sent += due;
        }
        assert!((1_499..=1_500).contains(&sent), "{sent}");
    }

    #[test]
    fn old_debt_is_forgiven() {
        let mut pace = Pace::new(1_000.0, Duration::ZERO);
        assert_eq!(pace.due(Duration::from_secs(10)), 101);
    }

    #[test]
    fn a_slow_sensor_sends_too() {
        let mut pace = Pace::new(0.4, Duration::ZERO);
        let mut sent = 0;
        for ms in (0..=60_000).step_by(5) {
            let due = pace.due(Duration::from_millis(ms));
            pace.sent(due);
            sent += due;
        }
        assert!((23..=24).contains(&sent), "{sent}");
    }
}
