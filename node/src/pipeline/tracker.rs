//! Out-of-order deliveries in, a contiguous watermark out. PURE.
//!
//! A task numbers its readings from 0 without a gap. Kafka acknowledges them in any order; MQTT must be acknowledged in
//! the order of receipt [MQTT-4.6.0-2]. The tracker holds one entry a reading from receipt until every earlier reading
//! is delivered too, so behind one reading that is stuck it grows with every one that is not: its owner stops reading at a bound
//! on [`Tracker::kept`], as neither what is undelivered nor MQTT's window, which `QoS` 0 knows not, bounds it.

use std::{collections::VecDeque, time::Instant};

/// Readings on their way, each with what must be remembered of it (`T`) until it is below the watermark.
#[derive(Debug)]
pub struct Tracker<T> {
    /// Number of the first entry: every reading below it is delivered.
    watermark: u64,
    /// Whether each reading is delivered. Apart from the origins: reports of many partitions come in no order, and at a byte a reading
    /// they find it in the processor's cache.
    delivered: VecDeque<bool>,
    origins: VecDeque<T>,
    /// One per read batch, oldest first.
    batches: VecDeque<Batch>,
    undelivered: u64,
}

#[derive(Debug)]
struct Batch {
    received_at: Instant,
    /// One past the batch's last reading.
    end: u64,
    readings: u64,
}

impl<T> Default for Tracker<T> {
    fn default() -> Self {
        Self {
            watermark: 0,
            delivered: VecDeque::new(),
            origins: VecDeque::new(),
            batches: VecDeque::new(),
            undelivered: 0,
        }
    }
}

impl<T> Tracker<T> {
    /// Takes the next reading in and returns its number.
    pub fn receive(&mut self, origin: T) -> u64 {
        let seq = self.end();
        self.delivered.push_back(false);
        self.origins.push_back(origin);
        self.undelivered += 1;
        seq
    }

    /// Says that all readings since the last call were received at `now`.
    pub fn end_batch(&mut self, now: Instant) {
        let (end, start) = (self.end(), self.batches.back().map_or(self.watermark, |batch| batch.end));
        if end > start {
            self.batches.push_back(Batch { received_at: now, end, readings: end - start });
        }
    }

    /// Marks a reading delivered; `false`: it was already, or is abandoned.
    pub fn deliver(&mut self, seq: u64) -> bool {
        let Some(is_delivered) = self.index_of(seq).and_then(|at| self.delivered.get_mut(at)) else { return false };
        let was_delivered = std::mem::replace(is_delivered, true);
        self.undelivered -= u64::from(!was_delivered);
        !was_delivered
    }

    /// Moves the watermark over everything delivered and returns it: every reading with a lower number is delivered.
    /// Calls `on_batch` with the receipt and the count of each read batch that is now delivered whole.
    pub fn advance(&mut self, mut on_batch: impl FnMut(Instant, u64)) -> u64 {
        let first = self.delivered.iter().position(|is_delivered| !is_delivered).unwrap_or(self.delivered.len());
        self.delivered.drain(..first);
        self.origins.drain(..first);
        self.watermark += first as u64;
        debug_assert_eq!(self.delivered.len(), self.origins.len(), "a flag for each reading");
        while let Some(batch) = self.batches.front().filter(|batch| batch.end <= self.watermark) {
            on_batch(batch.received_at, batch.readings);
            self.batches.pop_front();
        }
        self.watermark
    }

    /// What was remembered of a reading that is not below the watermark.
    pub fn origin(&self, seq: u64) -> Option<&T> {
        self.origins.get(self.index_of(seq)?)
    }

    /// Forgets every reading that is not below the watermark; returns how many of them were not delivered.
    pub fn abandon(&mut self) -> u64 {
        self.watermark = self.end();
        self.delivered.clear();
        self.origins.clear();
        self.batches.clear();
        std::mem::take(&mut self.undelivered)
    }

    /// Every reading with a lower number is delivered, as of the last [`advance`](Self::advance).
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Readings received and not delivered.
    pub fn undelivered(&self) -> u64 {
        self.undelivered
    }

    /// Readings at or above the watermark, delivered or not.
    pub fn kept(&self) -> usize {
        self.origins.len()
    }

    /// When the oldest reading above the watermark was received.
    pub fn oldest(&self) -> Option<Instant> {
        self.batches.front().map(|batch| batch.received_at)
    }

    fn end(&self) -> u64 {
        self.watermark + self.origins.len() as u64
    }

    /// Where a reading's entries are, or would be; none: it is below the watermark.
    fn index_of(&self, seq: u64) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.watermark)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_watermark_waits_for_the_oldest_reading() {
        let mut tracker = Tracker::default();
        for name in ["a", "b", "c"] {
            tracker.receive(name);
        }
        assert!(tracker.deliver(1) && tracker.deliver(2));
        assert_eq!(tracker.advance(|_, _| ()), 0);
        assert_eq!((tracker.undelivered(), tracker.kept()), (1, 3), "what is delivered is kept behind what is not");
        assert!(tracker.deliver(0) && !tracker.deliver(0));
        assert_eq!((tracker.advance(|_, _| ()), tracker.undelivered()), (3, 0));
        assert_eq!(tracker.kept(), 0);
    }

    #[test]
    fn a_report_of_an_abandoned_reading_changes_nothing() {
        let mut tracker = Tracker::default();
        tracker.receive(());
        tracker.receive(());
        tracker.deliver(1);
        assert_eq!((tracker.abandon(), tracker.watermark()), (1, 2));
        assert!(!tracker.deliver(0));
        assert_eq!(tracker.receive(()), 2);
    }

    #[test]
    fn a_batch_is_told_once_when_its_last_reading_is_below_the_watermark() {
        let mut tracker = Tracker::default();
        let now = Instant::now();
        tracker.receive(());
        tracker.receive(());
        tracker.end_batch(now);
        tracker.end_batch(now);
        let mut told = Vec::new();
        tracker.deliver(0);
        tracker.advance(|_, count| told.push(count));
        assert!(told.is_empty() && tracker.oldest() == Some(now));
        tracker.deliver(1);
        tracker.advance(|_, count| told.push(count));
        assert_eq!((told, tracker.oldest()), (vec![2], None));
    }

    proptest! {
        #[test]
        fn the_watermark_is_the_first_undelivered_reading(count in 1..200_u64, order in prop::collection::vec(any::<u64>(), 0..300)) {
            let mut tracker = Tracker::default();
            for seq in 0..count {
                prop_assert_eq!(tracker.receive(seq), seq);
            }
            let mut delivered = BTreeSet::new();
            for pick in order {
                let seq = pick % count;
                prop_assert_eq!(tracker.deliver(seq), delivered.insert(seq));
                let expected = (0..count).find(|seq| !delivered.contains(seq)).unwrap_or(count);
                prop_assert_eq!(tracker.advance(|_, _| ()), expected);
                prop_assert_eq!(tracker.undelivered(), count - delivered.len() as u64);
                prop_assert_eq!(tracker.origin(expected).copied(), (expected < count).then_some(expected));
            }
        }
    }
}
