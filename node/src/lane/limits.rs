//! How much may be in flight: in readings and in bytes, per lane, per producer and per shard.
//!
//! A record is in flight from its hand-over until Kafka's report, or until its producer is gone: so long it takes memory, whether the task
//! that brought it is still there or not. Where a lane has several producers none may take more than half of it, so that one dead Kafka
//! cannot keep the others' shards waiting. Full means that sockets are not read; TCP and MQTT's receive maximum do the rest. A bound may
//! be passed by one read, at most [`READ_BYTES_MAX`](crate::pipeline::source::connection::READ_BYTES_MAX), because a read is handled whole.

use std::{cell::Cell, rc::Rc};

use crate::{config::InFlight, pipeline::sink::Volume};

/// What is in flight, of a whole lane or of one task.
#[derive(Debug, Default)]
pub(super) struct Total {
    readings: Cell<u64>,
    bytes: Cell<u64>,
}

/// What is in flight through one producer; counted in its lane's total, too.
#[derive(Debug)]
pub(super) struct Load {
    own: Total,
    lane: Rc<Total>,
}

impl Total {
    pub(super) fn readings(&self) -> u64 {
        self.readings.get()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    pub(super) fn add(&self, volume: Volume) {
        self.readings.set(self.readings.get() + volume.readings);
        self.bytes.set(self.bytes.get() + volume.bytes);
    }

    /// Never below nothing, from where no bound would let anybody read again.
    pub(super) fn subtract(&self, volume: Volume) {
        self.readings.set(self.readings.get().saturating_sub(volume.readings));
        self.bytes.set(self.bytes.get().saturating_sub(volume.bytes));
    }

    /// Empties it; returns what was there.
    pub(super) fn take(&self) -> Volume {
        Volume { readings: self.readings.take(), bytes: self.bytes.take() }
    }

    /// Shards may read on, as far as the lane is concerned.
    pub(super) fn has_room(&self, limits: &InFlight) -> bool {
        self.readings.get() < limits.lane_readings.get() && self.bytes.get() < limits.lane_bytes.get()
    }

    /// The shard may read on, as far as it alone is concerned.
    pub(super) fn has_room_in_shard(&self, limits: &InFlight) -> bool {
        self.readings.get() < limits.shard_readings.get() && self.bytes.get() < limits.shard_bytes.get()
    }
}

impl Load {
    pub(super) fn of(lane: &Rc<Total>) -> Self {
        Self { own: Total::default(), lane: Rc::clone(lane) }
    }

    pub(super) fn add(&self, volume: Volume) {
        self.own.add(volume);
        self.lane.add(volume);
    }

    pub(super) fn subtract(&self, volume: Volume) {
        self.own.subtract(volume);
        self.lane.subtract(volume);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.own.readings() == 0
    }

    /// The producer is gone, and what it had with it.
    pub(super) fn clear(&self) {
        self.lane.subtract(self.own.take());
    }

    /// Shards of one producer among several may read on, as far as that producer is concerned.
    pub(super) fn is_within_half(&self, limits: &InFlight) -> bool {
        self.own.readings() < limits.lane_readings.get().div_ceil(2)
            && self.own.bytes() < limits.lane_bytes.get().div_ceil(2)
    }

    /// How full the lane is by this, in thousandths.
    pub(super) fn share(&self, limits: &InFlight) -> u64 {
        let share = |part: u64, whole: u64| part.saturating_mul(1_000) / whole;
        let readings = share(self.own.readings(), limits.lane_readings.get());
        readings.max(share(self.own.bytes(), limits.lane_bytes.get()))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.clear();
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

    const fn of(readings: u64, bytes: u64) -> Volume {
        Volume { readings, bytes }
    }

    #[test]
    fn a_full_shard_leaves_room_for_others_and_a_full_lane_leaves_none() {
        let lane = Rc::new(Total::default());
        let (producer, shards) = (Load::of(&lane), [Total::default(), Total::default()]);
        let hand_over = |shard: &Total, volume| {
            producer.add(volume);
            shard.add(volume);
        };
        hand_over(&shards[0], of(5, 50));
        assert!(!shards[0].has_room_in_shard(&LIMITS) && shards[1].has_room_in_shard(&LIMITS));
        assert!(lane.has_room(&LIMITS));
        hand_over(&shards[1], of(5, 50));
        assert!(!lane.has_room(&LIMITS));
        producer.subtract(of(1, 10));
        assert!(lane.has_room(&LIMITS));
    }

    #[test]
    fn a_producer_that_is_gone_has_nothing_in_flight() {
        let lane = Rc::new(Total::default());
        let (dead, live) = (Load::of(&lane), Load::of(&lane));
        dead.add(of(9, 900));
        live.add(of(1, 10));
        assert!(!lane.has_room(&LIMITS));
        drop(dead);
        assert_eq!((lane.readings(), lane.bytes()), (1, 10));
    }

    #[test]
    fn one_producer_of_several_leaves_half_of_the_lane() {
        let lane = Rc::new(Total::default());
        let (dead, live) = (Load::of(&lane), Load::of(&lane));
        dead.add(of(3, 30));
        assert!(dead.is_within_half(&LIMITS));
        dead.add(of(2, 20));
        assert!(!dead.is_within_half(&LIMITS) && live.is_within_half(&LIMITS) && lane.has_room(&LIMITS));
        assert!(dead.share(&LIMITS) > live.share(&LIMITS));
        live.add(of(1, 500));
        assert!(!live.is_within_half(&LIMITS), "bytes count, too");
    }
}
