//! What was sent, what the MQTT broker acknowledged to the sensor, what a reader of Kafka saw. Pure.
//!
//! Knows nothing of the node: sensors and witness are its only sources, so it is an independent judge of the node's
//! own ledger. It remembers a reading until it is both acknowledged and seen, so its size follows the backlog.

use std::{collections::VecDeque, time::Duration};

use hdrhistogram::Histogram;

use super::reading::Device;

/// Longest latency told apart: a minute, in microseconds. A slower reading counts as this.
const LATENCY_MAX_US: u64 = 60_000_000;
/// Span of the recent latency.
const RECENT: Duration = Duration::from_secs(1);

/// The account of one demo. Times are since its start.
#[derive(Debug)]
pub(super) struct Tally {
    devices: Vec<Sent>,
    published: u64,
    acked: u64,
    delivered: u64,
    duplicated: u64,
    /// Acknowledged to the sensor and not seen in Kafka.
    missing: u64,
    latency_us: Histogram<u64>,
    recent_us: Histogram<u64>,
    /// When `recent_us` was last emptied, and what it said then.
    recent: (Duration, Latency),
}

/// The readings of one device that are not yet both acknowledged and seen, and what lies before or between them.
#[derive(Debug, Default)]
struct Sent {
    /// Number of the first in `readings`; all before it are acknowledged and seen.
    first: u64,
    readings: VecDeque<Reading>,
}

#[derive(Debug)]
struct Reading {
    published: Duration,
    is_acked: bool,
    is_delivered: bool,
}

/// The sums of a tally.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Readings that sensors sent.
    pub(super) published: u64,
    /// Of those, acknowledged by the MQTT broker.
    pub(super) acked: u64,
    /// Of those, seen in Kafka; each counts once.
    pub(super) delivered: u64,
    /// Records seen in Kafka beyond the first of each reading.
    pub(super) duplicated: u64,
    /// Acknowledged and not seen in Kafka: lost, if it stays so.
    pub(super) missing: u64,
}

/// Quantiles of the latency from publish to arrival at a reader of Kafka.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Latency {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Tally {
    /// An empty account of devices 0 up to `devices`.
    pub(super) fn new(devices: u32) -> Result<Self, hdrhistogram::CreationError> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_US, 3);
        Ok(Self {
            devices: (0..devices).map(|_| Sent::default()).collect(),
            published: 0,
            acked: 0,
            delivered: 0,
            duplicated: 0,
            missing: 0,
            latency_us: histogram()?,
            recent_us: histogram()?,
            recent: (Duration::ZERO, Latency::default()),
        })
    }

    /// A sensor sends its next reading; its number.
    pub(super) fn publish(&mut self, device: Device, now: Duration) -> u64 {
        let sent = &mut self.devices[device.0 as usize];
        sent.readings.push_back(Reading { published: now, is_acked: false, is_delivered: false });
        self.published += 1;
        sent.first + sent.readings.len() as u64 - 1
    }

    /// The MQTT broker acknowledged it.
    pub(super) fn ack(&mut self, device: Device, seq: u64) {
        let Some(sent) = self.devices.get_mut(device.0 as usize) else { return };
        let Some(reading) = sent.reading(seq).filter(|reading| !reading.is_acked) else { return };
        reading.is_acked = true;
        let is_missing = !reading.is_delivered;
        self.acked += 1;
        self.missing += u64::from(is_missing);
        sent.settle();
    }

    /// A reader of Kafka saw it.
    pub(super) fn deliver(&mut self, device: Device, seq: u64, now: Duration) {
        let Some(sent) = self.devices.get_mut(device.0 as usize) else { return };
        let Some(reading) = sent.reading(seq).filter(|reading| !reading.is_delivered) else {
            self.duplicated += 1;
            return;
        };
        reading.is_delivered = true;
        let was_missing = reading.is_acked;
        let latency = now.saturating_sub(reading.published);
        self.delivered += 1;
        self.missing -= u64::from(was_missing);
        sent.settle();
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US);
        self.latency_us.saturating_record(latency_us);
        self.recent_us.saturating_record(latency_us);
    }

    /// Readings sent and not yet seen in Kafka.
    pub(super) fn backlog(&self) -> u64 {
        self.published - self.delivered
    }

    /// The sums so far.
    pub(super) fn totals(&self) -> Totals {
        Totals {
            published: self.published,
            acked: self.acked,
            delivered: self.delivered,
            duplicated: self.duplicated,
            missing: self.missing,
        }
    }

    /// Latency of the whole demo.
    pub(super) fn latency(&self) -> Latency {
        Latency::of(&self.latency_us)
    }

    /// Latency of the last whole second.
    pub(super) fn recent_latency(&mut self, now: Duration) -> Latency {
        if now.saturating_sub(self.recent.0) >= RECENT {
            self.recent = (now, Latency::of(&self.recent_us));
            self.recent_us.reset();
        }
        self.recent.1
    }
}

impl Latency {
    #[expect(clippy::cast_precision_loss, reason = "the histogram ends at a minute")]
    fn of(histogram: &Histogram<u64>) -> Self {
        // Two decimals: finer than the three digits that the histogram keeps.
        let ms = |quantile| (histogram.value_at_quantile(quantile) as f64 / 10.0).round() / 100.0;
        Self { p50_ms: ms(0.5), p99_ms: ms(0.99) }
    }
}

impl Sent {
    fn reading(&mut self, seq: u64) -> Option<&mut Reading> {
        let index = seq.checked_sub(self.first)?;
        self.readings.get_mut(usize::try_from(index).ok()?)
    }

    fn settle(&mut self) {
        while self.readings.front().is_some_and(|reading| reading.is_acked && reading.is_delivered) {
            self.readings.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Device = Device(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn acknowledged_and_never_seen_is_missing() -> anyhow::Result<()> {
        let mut tally = Tally::new(2)?;
        for expected in 0..3 {
            assert_eq!(tally.publish(DEVICE, ms(0)), expected);
        }
        tally.ack(DEVICE, 0);
        tally.ack(DEVICE, 1);
        tally.deliver(DEVICE, 1, ms(5));
        // Number 2 was never acknowledged: the sensor would send it again, so it is not lost.
        assert_eq!(tally.totals(), Totals { published: 3, acked: 2, delivered: 1, duplicated: 0, missing: 1 });
        assert_eq!(tally.backlog(), 2);
        Ok(())
    }

    #[test]
    fn a_second_record_is_a_duplicate_even_after_the_first_is_forgotten() -> anyhow::Result<()> {
        let mut tally = Tally::new(2)?;
        let seq = tally.publish(DEVICE, ms(0));
        // Kafka may show a reading before the sensor's acknowledgement arrives.
        tally.deliver(DEVICE, seq, ms(4));
        tally.deliver(DEVICE, seq, ms(5));
        tally.ack(DEVICE, seq);
        tally.deliver(DEVICE, seq, ms(6));
        tally.ack(DEVICE, seq);
        assert_eq!(tally.totals(), Totals { published: 1, acked: 1, delivered: 1, duplicated: 2, missing: 0 });
        assert_eq!(tally.devices[1].readings.len(), 0);
        assert_eq!(tally.latency(), Latency { p50_ms: 4.0, p99_ms: 4.0 });
        Ok(())
    }
}
