//! How much may be in flight: in readings and in bytes, per lane, per producer and per shard.
//!
//! Where a lane has several producers none may take more than half of it, so that one dead Kafka cannot keep the others' shards waiting.
//! Full means that sockets are not read; TCP and MQTT's receive maximum do the rest. A bound may be passed by one read, at
//! most [`READ_BYTES_MAX`](crate::pipeline::source::connection::READ_BYTES_MAX), because a read is handled whole.

use std::{cell::Cell, rc::Rc};

use crate::config::InFlight;

/// What is in flight in a whole lane, or on its way through one producer.
#[derive(Debug, Default)]
pub(super) struct Total {
    readings: Cell<u64>,
    bytes: Cell<u64>,
}

/// What one shard has in flight; counted in its lane's and its producer's total, too.
#[derive(Debug)]
pub(super) struct Load {
    readings: u64,
    bytes: u64,
    totals: [Rc<Total>; 2],
}

impl Load {
    pub(super) fn of(lane: &Rc<Total>, producer: &Rc<Total>) -> Self {
        Self { readings: 0, bytes: 0, totals: [Rc::clone(lane), Rc::clone(producer)] }
    }

    /// Goes on, with nothing in flight, through another producer.
    pub(super) fn move_to(&mut self, producer: &Rc<Total>) {
        self.clear();
        self.totals[1] = Rc::clone(producer);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn add(&mut self, readings: u64, bytes: u64) {
        self.readings += readings;
        self.bytes += bytes;
        for total in &self.totals {
            total.readings.set(total.readings.get() + readings);
            total.bytes.set(total.bytes.get() + bytes);
        }
    }

    pub(super) fn subtract(&mut self, readings: u64, bytes: u64) {
        self.readings -= readings;
        self.bytes -= bytes;
        for total in &self.totals {
            total.readings.set(total.readings.get() - readings);
            total.bytes.set(total.bytes.get() - bytes);
        }
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

    /// Shards of one producer among several may read on, as far as that producer is concerned.
    pub(super) fn is_within_half(&self, limits: &InFlight) -> bool {
        self.readings.get() < limits.lane_readings.get().div_ceil(2)
            && self.bytes.get() < limits.lane_bytes.get().div_ceil(2)
    }

    /// How full the lane is by this, in thousandths.
    pub(super) fn share(&self, limits: &InFlight) -> u64 {
        let share = |part: u64, whole: u64| part.saturating_mul(1_000) / whole;
        let readings = share(self.readings.get(), limits.lane_readings.get());
        readings.max(share(self.bytes.get(), limits.lane_bytes.get()))
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
        let (total, producer) = (Rc::new(Total::default()), Rc::default());
        let (mut a, mut b) = (Load::of(&total, &producer), Load::of(&total, &producer));
        a.add(5, 50);
        assert!(!a.has_room(&LIMITS) && b.has_room(&LIMITS) && total.has_room(&LIMITS));
        b.add(5, 50);
        assert!(!total.has_room(&LIMITS));
        drop(a);
        assert!(total.has_room(&LIMITS));
    }

    #[test]
    fn one_producer_of_several_leaves_half_of_the_lane() {
        let (total, dead, live): (Rc<Total>, Rc<Total>, Rc<Total>) = Default::default();
        let mut shards = [Load::of(&total, &dead), Load::of(&total, &dead)];
        shards[0].add(3, 30);
        assert!(dead.is_within_half(&LIMITS));
        shards[1].add(2, 20);
        assert!(!dead.is_within_half(&LIMITS) && live.is_within_half(&LIMITS) && total.has_room(&LIMITS));
        assert!(dead.share(&LIMITS) > live.share(&LIMITS));
        shards[1].move_to(&live);
        assert!(dead.is_within_half(&LIMITS));
        shards[1].add(1, 500);
        assert!(!live.is_within_half(&LIMITS), "bytes count, too");
    }
}
