//! PURE: which reading is sent when, and by which connection.
//!
//! Devices are dealt out over the connections, so one device's readings travel in order over one connection; each connection
//! sends its devices' readings in turn.

use std::time::Duration;

use crate::reading::ReadingId;

/// What the whole run sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) devices: u32,
    /// Readings per second over all connections; 0: as fast as it goes.
    pub(crate) rate: u32,
    pub(crate) duration: Duration,
    /// At most `devices`.
    pub(crate) connections: u32,
}

impl Plan {
    /// What `connection` (from 0) sends.
    pub(crate) fn turns(self, connection: u32) -> Turns {
        Turns { plan: self, connection, own_devices: (self.devices - connection).div_ceil(self.connections), next: 0 }
    }
}

/// The readings of one connection, in the order of sending.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    plan: Plan,
    connection: u32,
    own_devices: u32,
    next: u64,
}

/// When the next reading may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Now; it should have left at this time since the start.
    Now(Duration),
    /// At this time since the start.
    At(Duration),
    /// There is no next reading.
    Never,
}

impl Turns {
    /// When the next reading may leave, `elapsed` after the start.
    pub(crate) fn due(&self, elapsed: Duration) -> Due {
        let at = match self.plan.rate {
            0 => elapsed,
            rate => {
                let before = u128::from(self.next) * u128::from(self.plan.connections) + u128::from(self.connection);
                let nanos = before * 1_000_000_000 / u128::from(rate);
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        };
        if at >= self.plan.duration {
            Due::Never
        } else if at <= elapsed {
            Due::Now(at)
        } else {
            Due::At(at)
        }
    }

    /// Takes the next reading.
    pub(crate) fn take(&mut self) -> ReadingId {
        let own = u64::from(self.own_devices);
        let (seq, turn) = (self.next / own, self.next % own);
        self.next += 1;
        let device = u64::from(self.connection) + turn * u64::from(self.plan.connections);
        // Both fit: device < devices; a day flat out over one device is below 2^32 readings.
        ReadingId { device: u32::try_from(device).unwrap_or(u32::MAX), seq: u32::try_from(seq).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn every_device_is_sent_by_one_connection_with_numbers_without_gaps() {
        let plan = Plan { devices: 7, rate: 1_000, duration: Duration::from_secs(1), connections: 3 };
        let mut seqs: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut total = 0;
        for connection in 0..3 {
            let mut turns = plan.turns(connection);
            let mut own = BTreeSet::new();
            while let Due::Now(_) = turns.due(Duration::from_secs(10)) {
                let id = turns.take();
                own.insert(id.device);
                seqs.entry(id.device).or_default().push(id.seq);
                total += 1;
            }
            assert!(own.iter().all(|device| device % 3 == connection));
        }
        assert_eq!(total, 1_000);
        assert_eq!(seqs.len(), 7);
        for seqs in seqs.values() {
            assert!(seqs.iter().copied().eq(0..u32::try_from(seqs.len()).unwrap_or(0)));
        }
    }

    #[test]
    fn the_rate_is_spread_evenly() {
        let mut turns = Plan { devices: 1, rate: 4, duration: Duration::from_secs(1), connections: 1 }.turns(0);
        assert_eq!(turns.due(Duration::ZERO), Due::Now(Duration::ZERO));
        turns.take();
        assert_eq!(turns.due(Duration::from_millis(100)), Due::At(Duration::from_millis(250)));
        assert_eq!(turns.due(Duration::from_millis(300)), Due::Now(Duration::from_millis(250)));
        turns.next = 4;
        assert_eq!(turns.due(Duration::from_millis(300)), Due::Never);
    }

    #[test]
    fn flat_out_is_always_due_until_the_end() {
        let turns = Plan { devices: 1, rate: 0, duration: Duration::from_secs(1), connections: 1 }.turns(0);
        assert_eq!(turns.due(Duration::from_millis(10)), Due::Now(Duration::from_millis(10)));
        assert_eq!(turns.due(Duration::from_secs(1)), Due::Never);
    }
}
