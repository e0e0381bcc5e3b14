//! How long to wait before the next connection: first at most 200 ms, doubling, at most 5 s, jittered so that shards
//! that lost one broker together do not come back to it together.

use std::time::Duration;

/// Longest first wait: a broker that restarts a listener is back by then.
pub const FIRST_MAX: Duration = Duration::from_millis(200);
/// Longest wait: a broker that comes back is noticed within this.
pub const LONGEST: Duration = Duration::from_secs(5);
/// A connection that lived this long was sound: the next wait is a first one again. Shorter ones, such as two nodes that take one
/// session from each other in turns, go on doubling.
pub const SOUND_AFTER: Duration = Duration::from_secs(5);

/// The waits of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    ceiling: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { ceiling: FIRST_MAX }
    }
}

impl Backoff {
    /// The next wait: between half and all of the present ceiling, by `random`, any number drawn evenly.
    pub fn wait(&mut self, random: u32) -> Duration {
        let half = self.ceiling / 2;
        self.ceiling = (self.ceiling * 2).min(LONGEST);
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// The longest wait, jittered alike: for what an operator must mend first.
    pub fn longest(&mut self, random: u32) -> Duration {
        self.ceiling = LONGEST;
        self.wait(random)
    }

    /// A connection was accepted, and ended after `lived`.
    pub fn ended(&mut self, lived: Duration) {
        if lived >= SOUND_AFTER {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..7).map(|_| backoff.wait(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..7).map(|_| backoff.wait(0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 2_500, 2_500]);
    }

    #[test]
    fn only_a_connection_that_lived_starts_over() {
        let mut backoff = Backoff::default();
        backoff.wait(0);
        backoff.ended(SOUND_AFTER.checked_sub(Duration::from_millis(1)).unwrap_or_default());
        assert_eq!(backoff.wait(u32::MAX).as_millis(), 400);
        backoff.ended(SOUND_AFTER);
        assert_eq!(backoff.wait(u32::MAX), FIRST_MAX);
    }
}
