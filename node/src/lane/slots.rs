//! Which task a delivery report belongs to.
//!
//! A record's opaque number names its task's slot and the reading within it. A slot is given to another task only when
//! every record of the last one has been reported: an old report that moved a new task's watermark would be a loss.

use std::{cell::RefCell, rc::Rc};

use super::shard::Shard;

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
        (self.0 as u64) << SEQ_BITS | seq & ((1 << SEQ_BITS) - 1)
    }
}

/// All slots of a lane.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<Place>);

#[derive(Debug, Default)]
struct Place {
    shard: Option<Rc<RefCell<Shard>>>,
    /// Records handed over and not yet reported.
    unreported: u64,
}

impl Slots {
    /// A slot that no report can mean; none: all are taken.
    pub(super) fn free(&mut self) -> Option<Slot> {
        if let Some(at) = self.0.iter().position(|place| place.shard.is_none() && place.unreported == 0) {
            return Some(Slot(at));
        }
        (self.0.len() < SLOTS_MAX).then(|| {
            self.0.push(Place::default());
            Slot(self.0.len() - 1)
        })
    }

    pub(super) fn set(&mut self, slot: Slot, shard: Option<Rc<RefCell<Shard>>>) {
        self.0[slot.0].shard = shard;
    }

    /// `count` records were handed over.
    pub(super) fn handed_over(&mut self, slot: Slot, count: u64) {
        self.0[slot.0].unreported += count;
    }

    /// Nothing more will be reported of what was handed over: its producer is gone.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.0[slot.0].unreported = 0;
    }

    /// Takes one report in: whose it is, and which reading's. None: of a task that has ended.
    pub(super) fn reported(&mut self, opaque: u64) -> Option<(&Rc<RefCell<Shard>>, Slot, u64)> {
        let at = usize::try_from(opaque >> SEQ_BITS).ok()?;
        let place = self.0.get_mut(at)?;
        place.unreported = place.unreported.saturating_sub(1);
        Some((place.shard.as_ref()?, Slot(at), opaque & ((1 << SEQ_BITS) - 1)))
    }

    /// The task in `slot`.
    pub(super) fn get(&self, slot: Slot) -> Option<Rc<RefCell<Shard>>> {
        self.0[slot.0].shard.clone()
    }

    /// Every task of the lane.
    pub(super) fn shards(&self) -> impl Iterator<Item = &Rc<RefCell<Shard>>> {
        self.0.iter().filter_map(|place| place.shard.as_ref())
    }
}
