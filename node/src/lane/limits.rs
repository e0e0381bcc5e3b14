//! How much may be in flight: in readings and in bytes, per lane and per shard.
//!
//! Full means that sockets are not read; TCP and MQTT's receive maximum do the rest. A bound may be passed by one read, at
//! most [`READ_BYTES_MAX`](crate::pipeline::source::connection::READ_BYTES_MAX), because a read is handled whole.

use std::{cell::Cell, rc::Rc};

use crate::config::InFlight;

/// What is in flight in a whole lane.
#[derive(Debug, Default)]
pub(super) struct Total {
    readings: Cell<u64>,
    bytes: Cell<u64>,
}

/// What one shard has in flight; counted in its lane's total, too, once it is given one.
#[derive(Debug, Default)]
pub(super) struct Load {
    readings: u64,
    bytes: u64,
    total: Rc<Total>,
}

impl Load {
    pub(super) fn of(total: &Rc<Total>) -> Self {
        Self { readings: 0, bytes: 0, total: Rc::clone(total) }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn add(&mut self, readings: u64, bytes: u64) {
        self.readings += readings;
        self.bytes += bytes;
        self.total.readings.set(self.total.readings.get() + readings);
        self.total.bytes.set(self.total.bytes.get() + bytes);
    }

    pub(super) fn subtract(&mut self, readings: u64, bytes: u64) {
        self.readings -= readings;
        self.bytes -= bytes;
        self.total.readings.set(self.total.readings.get() - readings);
        self.total.bytes.set(self.total.bytes.get() - bytes);
    }

    pub(super) fn clear(&mut self) {
        self.subtract(self.readings, self.bytes);
    }

    /// The shard may read on, as far as it alone is concerned.
    pub(super) fn has_room(&self, limits: &InFlight) -> bool {
        self.readings < limits.shard_readings.get() && self.bytes < limits.shard_bytes.get()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Total {
    /// Shards may read on, as far as the lane is concerned.
    pub(super) fn has_room(&self, limits: &InFlight) -> bool {
        self.readings.get() < limits.lane_readings.get() && self.bytes.get() < limits.lane_bytes.get()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    const fn nonzero(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number).expect("a bound is not 0")
    }

    const LIMITS: InFlight = InFlight {
        lane_readings: nonzero(10),
        lane_bytes: nonzero(1_000),
        shard_readings: nonzero(5),
        shard_bytes: nonzero(100),
    };

    #[test]
    fn a_full_shard_leaves_room_for_others_and_a_full_lane_leaves_none() {
        let total = Rc::new(Total::default());
        let (mut a, mut b) = (Load::of(&total), Load::of(&total));
        a.add(5, 50);
        assert!(!a.has_room(&LIMITS) && b.has_room(&LIMITS) && total.has_room(&LIMITS));
        b.add(5, 50);
        assert!(!total.has_room(&LIMITS));
        drop(a);
        assert!(total.has_room(&LIMITS));
    }
}
