//! PURE: when readings were stored in Kafka, zone by zone, and so how long a zone was silent.
//!
//! Times are Kafka's own (`LogAppendTime`), so that a reader that is late, or reads one partition before the other, makes no gaps.

/// Times of arrival since the last [`Arrivals::forget`], in milliseconds of Unix time.
#[derive(Debug)]
pub(crate) struct Arrivals {
    zones: Vec<Vec<i64>>,
    wait_ms_max: i64,
}

impl Arrivals {
    pub(crate) fn new(zones: u8) -> Self {
        Self { zones: vec![Vec::new(); usize::from(zones)], wait_ms_max: 0 }
    }

    /// A reading was stored for the first time.
    pub(crate) fn note(&mut self, zone: u8, stored_ms: i64, sent_ns: u64) {
        let Some(times) = self.zones.get_mut(usize::from(zone)) else { return };
        // Many readings share a millisecond.
        if times.last() != Some(&stored_ms) {
            times.push(stored_ms);
        }
        let sent_ms = i64::try_from(sent_ns / 1_000_000).unwrap_or(i64::MAX);
        self.wait_ms_max = self.wait_ms_max.max(stored_ms.saturating_sub(sent_ms));
    }

    /// Starts afresh, and keeps the last arrival of each zone: a silence may have begun with it.
    pub(crate) fn forget(&mut self) {
        for times in &mut self.zones {
            let last = times.iter().copied().max();
            times.clear();
            times.extend(last);
        }
        self.wait_ms_max = 0;
    }

    /// The longest silence of a zone that ended, or had not ended, between these times.
    pub(crate) fn longest_gap_ms(&mut self, zone: u8, from_ms: i64, to_ms: i64) -> u64 {
        let Some(times) = self.zones.get_mut(usize::from(zone)) else { return 0 };
        times.sort_unstable();
        let mut before = from_ms;
        let mut longest = 0;
        for &at in times.iter().filter(|&&at| at <= to_ms) {
            if at >= from_ms {
                longest = longest.max(at - before);
            }
            before = at;
        }
        let longest = longest.max(to_ms - before);
        u64::try_from(longest).unwrap_or(0)
    }

    /// The longest that a reading took from the moment it was meant to leave to Kafka, since the last [`Arrivals::forget`].
    pub(crate) fn wait_ms_max(&self) -> u64 {
        u64::try_from(self.wait_ms_max).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(times: &[i64]) -> Arrivals {
        let mut arrivals = Arrivals::new(2);
        times.iter().for_each(|&at| arrivals.note(1, at, 0));
        arrivals
    }

    #[test]
    fn a_gap_is_found_whatever_the_order_of_reading() {
        assert_eq!(noted(&[100, 110, 400, 120, 390, 410]).longest_gap_ms(1, 115, 410), 270);
    }

    #[test]
    fn a_silence_that_began_before_the_fault_counts_from_its_beginning() {
        assert_eq!(noted(&[100, 200, 900]).longest_gap_ms(1, 500, 900), 700);
        let mut arrivals = noted(&[100, 200]);
        arrivals.forget();
        arrivals.note(1, 900, 0);
        assert_eq!(arrivals.longest_gap_ms(1, 500, 900), 700);
    }

    #[test]
    fn what_was_silent_before_the_fault_is_not_the_faults() {
        assert_eq!(noted(&[100, 800, 900, 950]).longest_gap_ms(1, 850, 950), 100);
    }

    #[test]
    fn a_silence_that_has_not_ended_counts() {
        assert_eq!(noted(&[100, 110]).longest_gap_ms(1, 105, 5_000), 4_890);
        assert_eq!(noted(&[]).longest_gap_ms(1, 1_000, 5_000), 4_000);
    }

    #[test]
    fn the_longest_wait_is_from_the_intended_time() {
        let mut arrivals = Arrivals::new(1);
        arrivals.note(0, 1_500, 1_000_000_000);
        arrivals.note(0, 1_510, 1_505_000_000);
        assert_eq!(arrivals.wait_ms_max(), 500);
    }
}
