//! PURE: what was acknowledged by the MQTT broker against what Kafka holds, reading by reading.
//!
//! Two bits a reading; a run of a day at 20,000 readings a second needs 430 MB.

use hdrhistogram::Histogram;

use crate::reading::ReadingId;

/// Latencies beyond a day are recorded as a day, in microseconds.
const LATENCY_US_MAX: u64 = 86_400_000_000;
/// Missing readings that the report names.
const EXAMPLES: usize = 10;

/// Everything that is known of one run's readings.
#[derive(Debug)]
pub(crate) struct Oracle {
    devices: Vec<Device>,
    counts: Counts,
    latency_us: Histogram<u64>,
}

/// Sums over all devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Distinct readings that the MQTT broker acknowledged.
    pub(crate) acknowledged: u64,
    /// Distinct readings in Kafka.
    pub(crate) delivered: u64,
    /// Acknowledged and in Kafka.
    pub(crate) both: u64,
    /// Further copies in Kafka.
    pub(crate) duplicated: u64,
    /// First copies behind a younger reading of the same device.
    pub(crate) reordered: u64,
    /// Records in Kafka that cannot be of this run: a device that it does not have.
    pub(crate) strange: u64,
}

impl Counts {
    /// Acknowledged and not in Kafka.
    pub(crate) fn lost(&self) -> u64 {
        self.acknowledged - self.both
    }
}

#[derive(Debug, Default, Clone)]
struct Device {
    acknowledged: Bits,
    delivered: Bits,
    /// Number of the youngest delivered reading, plus one.
    next: u32,
}

impl Oracle {
    pub(crate) fn new(devices: u32) -> anyhow::Result<Self> {
        Ok(Self {
            devices: vec![Device::default(); devices as usize],
            counts: Counts::default(),
            latency_us: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?,
        })
    }

    /// The MQTT broker acknowledged these.
    pub(crate) fn acknowledge(&mut self, ids: &[ReadingId]) {
        for id in ids {
            let device = &mut self.devices[id.device as usize];
            if device.acknowledged.set(id.seq) {
                self.counts.acknowledged += 1;
                self.counts.both += u64::from(device.delivered.get(id.seq));
            }
        }
    }

    /// Kafka's consumer handed this one out, so long after it was meant to be sent. True: for the first time.
    pub(crate) fn deliver(&mut self, id: ReadingId, latency_us: u64) -> bool {
        let Some(device) = self.devices.get_mut(id.device as usize) else {
            self.counts.strange += 1;
            return false;
        };
        if !device.delivered.set(id.seq) {
            self.counts.duplicated += 1;
            return false;
        }
        self.counts.delivered += 1;
        self.counts.both += u64::from(device.acknowledged.get(id.seq));
        if id.seq < device.next {
            self.counts.reordered += 1;
        } else {
            device.next = id.seq.saturating_add(1);
        }
        self.latency_us.saturating_record(latency_us.max(1));
        true
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn latency_us(&self) -> &Histogram<u64> {
        &self.latency_us
    }

    /// Some of the readings that are acknowledged and not in Kafka.
    pub(crate) fn examples_of_lost(&self) -> Vec<ReadingId> {
        self.missing().take(EXAMPLES).collect()
    }

    /// The readings that are acknowledged and not in Kafka.
    pub(crate) fn missing(&self) -> impl Iterator<Item = ReadingId> + '_ {
        self.devices.iter().zip(0..).flat_map(|(device, number)| {
            let missing = device.acknowledged.iter().filter(|&seq| !device.delivered.get(seq));
            missing.map(move |seq| ReadingId { device: number, seq })
        })
    }

    /// Whether Kafka has this reading.
    pub(crate) fn is_delivered(&self, id: ReadingId) -> bool {
        self.devices.get(id.device as usize).is_some_and(|device| device.delivered.get(id.seq))
    }
}

/// A growing set of small numbers.
#[derive(Debug, Default, Clone)]
struct Bits(Vec<u64>);

impl Bits {
    /// True: it was not in the set.
    fn set(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1_u64 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    fn get(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().zip(0_u32..).flat_map(|(&word, index)| {
            (0..64_u32).filter(move |bit| word & (1 << bit) != 0).map(move |bit| index * 64 + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(device: u32, seq: u32) -> ReadingId {
        ReadingId { device, seq }
    }

    fn oracle() -> Oracle {
        #[expect(clippy::unwrap_used, reason = "the bounds are constants")]
        Oracle::new(2).unwrap()
    }

    #[test]
    fn lost_is_what_was_acknowledged_and_did_not_arrive() {
        let mut oracle = oracle();
        oracle.acknowledge(&[id(0, 0), id(0, 1), id(1, 100)]);
        oracle.deliver(id(0, 1), 5);
        oracle.deliver(id(1, 7), 5);
        assert_eq!(oracle.counts().lost(), 2);
        assert_eq!(oracle.examples_of_lost(), [id(0, 0), id(1, 100)]);
        oracle.acknowledge(&[id(1, 7)]);
        assert_eq!(oracle.counts().lost(), 2, "it had arrived before it was acknowledged");
    }

    #[test]
    fn further_copies_are_duplicates_and_never_reordered() {
        let mut oracle = oracle();
        for (seq, is_first) in [(0, true), (1, true), (2, true), (0, false), (1, false), (3, true)] {
            assert_eq!(oracle.deliver(id(0, seq), 5), is_first);
        }
        let counts = oracle.counts();
        assert_eq!((counts.delivered, counts.duplicated, counts.reordered), (4, 2, 0));
        assert_eq!(oracle.latency_us().len(), 4);
    }

    #[test]
    fn a_first_copy_behind_a_younger_one_is_reordered() {
        let mut oracle = oracle();
        for (device, seq) in [(0, 0), (0, 3), (1, 1), (0, 1), (0, 2), (0, 4), (1, 2)] {
            oracle.deliver(id(device, seq), 5);
        }
        assert_eq!(oracle.counts().reordered, 2);
    }

    #[test]
    fn a_device_that_the_run_does_not_have_is_strange() {
        let mut oracle = oracle();
        assert!(!oracle.deliver(id(2, 0), 5));
        assert_eq!(oracle.counts(), Counts { strange: 1, ..Counts::default() });
    }
}
