//! Which task a delivery report belongs to, and what each task has in flight.
//!
//! A record's opaque number names its task's slot and the reading within it. A slot is given to another task only when
//! every record of the last one has been reported, or cannot be any more because its producer is gone: an old report that moved
//! a new task's watermark would be a loss.

use std::{
    any::Any,
    cell::RefCell,
    rc::{Rc, Weak},
};

use super::{limits::Total, shard::Shard};
use crate::pipeline::sink::Volume;

/// Bits of the opaque that hold the reading's number: 2^48 readings are nine years at a million a second.
const SEQ_BITS: u32 = 48;

/// Slots of one lane: what the other bits can name.
const SLOTS_MAX: usize = 1 << (u64::BITS - SEQ_BITS);

/// A task's place in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(usize);

impl Slot {
    /// The opaque number of a record of reading `seq`.
    pub(super) fn opaque(self, seq: u64) -> u64 {
        (self.0 as u64) << SEQ_BITS | Self::seq(seq)
    }

    /// The reading whose record has this opaque number.
    pub(super) fn seq(opaque: u64) -> u64 {
        opaque & ((1 << SEQ_BITS) - 1)
    }
}

/// All slots of a lane.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<Seat>);

#[derive(Debug, Default)]
struct Seat {
    shard: Option<Rc<RefCell<Shard>>>,
    /// Handed over and not yet reported.
    unreported: Rc<Total>,
    /// Who reports them; none: nothing was ever handed over.
    reporter: Option<Weak<dyn Any>>,
}

impl Seat {
    fn is_free(&self) -> bool {
        let is_silent = self.reporter.as_ref().is_none_or(|reporter| reporter.strong_count() == 0);
        self.shard.is_none() && (self.unreported.readings() == 0 || is_silent)
    }
}

impl Slots {
    /// A slot that no report can mean; none: all are taken.
    pub(super) fn free(&mut self) -> Option<Slot> {
        if let Some(at) = self.0.iter().position(Seat::is_free) {
            return Some(Slot(at));
        }
        (self.0.len() < SLOTS_MAX).then(|| {
            self.0.push(Seat::default());
            Slot(self.0.len() - 1)
        })
    }

    pub(super) fn set(&mut self, slot: Slot, shard: Option<Rc<RefCell<Shard>>>) {
        self.0[slot.0].shard = shard;
    }

    /// What was handed over for the slot's task and is not yet reported.
    pub(super) fn unreported(&self, slot: Slot) -> Rc<Total> {
        Rc::clone(&self.0[slot.0].unreported)
    }

    /// Records were handed over.
    pub(super) fn handed_over(&self, slot: Slot, volume: Volume) {
        self.0[slot.0].unreported.add(volume);
    }

    /// From now on the slot's records are handed to `reporter`; what was handed to another is never reported any more.
    pub(super) fn report_by(&mut self, slot: Slot, reporter: Weak<dyn Any>) {
        let seat = &mut self.0[slot.0];
        seat.unreported.take();
        seat.reporter = Some(reporter);
    }

    /// Takes the report of a record of so many bytes in: whose it is, and which reading's. None: of a task that has ended.
    pub(super) fn reported(&self, opaque: u64, bytes: u64) -> Option<(&Rc<RefCell<Shard>>, Slot, u64)> {
        let at = usize::try_from(opaque >> SEQ_BITS).ok()?;
        let seat = self.0.get(at)?;
        seat.unreported.subtract(Volume { readings: 1, bytes });
        Some((seat.shard.as_ref()?, Slot(at), Slot::seq(opaque)))
    }

    /// The task in `slot`.
    pub(super) fn get(&self, slot: Slot) -> Option<Rc<RefCell<Shard>>> {
        self.0[slot.0].shard.clone()
    }

    /// Every task of the lane.
    pub(super) fn shards(&self) -> impl Iterator<Item = &Rc<RefCell<Shard>>> {
        self.0.iter().filter_map(|seat| seat.shard.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_when_all_is_reported_or_nobody_is_left_to_report() -> Result<(), &'static str> {
        let (mut slots, producer) = (Slots::default(), Rc::new(()));
        let reporter = || Rc::downgrade(&(Rc::clone(&producer) as Rc<dyn Any>));
        let first = slots.free().ok_or("no slot")?;
        slots.report_by(first, reporter());
        slots.handed_over(first, Volume { readings: 2, bytes: 7 });
        let second = slots.free().ok_or("no slot")?;
        assert_ne!(first, second);
        slots.reported(first.opaque(0), 3);
        slots.reported(first.opaque(1), 4);
        assert_eq!((slots.free(), slots.unreported(first).bytes()), (Some(first), 0));
        slots.handed_over(first, Volume { readings: 1, bytes: 3 });
        assert_eq!(slots.free(), Some(second));
        drop(producer);
        assert_eq!(slots.free(), Some(first));
        slots.report_by(first, Rc::downgrade(&(Rc::new(()) as Rc<dyn Any>)));
        assert_eq!(slots.unreported(first).take(), Volume::default(), "what the old producer had is not counted on");
        Ok(())
    }
}
