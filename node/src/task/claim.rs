//! Whether a task may connect: by what its node knows of its lease and of its assignment. PURE.
//!
//! Two nodes that hold one shard for a moment would kick each other off its MQTT session, each take-over the answer to the one before. So
//! a task connects only while its node's lease is valid and its assignment is the present one as far as the node knows.

use std::time::Instant;

use sluice_coordinator::{
    attach::Told,
    model::{Epoch, Owner, ShardId, State},
};

/// The assignment that a task runs under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose it is, by the task.
    pub me: Owner,
    /// Which shard.
    pub shard: ShardId,
    /// Under which number.
    pub epoch: Epoch,
}

/// What a task may do about connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may connect at this moment.
    MayConnect,
    /// Not before more is heard of the leader.
    Waits,
    /// The shard is another's, or on its way there: the task must end.
    NotMine,
}

impl Claim {
    /// What follows from the lease and the part, which must be read in this order: what was decided before the lease was renewed is in
    /// the part then, as the leader tells it first. `taken_over_at`: when another client took the session, or may have; then what was
    /// known of the assignment may be old, and only what the leader says after that moment counts.
    pub fn standing(&self, lease: Told, part: &State, taken_over_at: Option<Instant>, now: Instant) -> Standing {
        if !self.is_mine(part) {
            return Standing::NotMine;
        }
        let is_confirmed = taken_over_at.is_none_or(|moment| lease.is_confirmed_since(moment));
        if is_confirmed && lease.is_valid(now) { Standing::MayConnect } else { Standing::Waits }
    }

    fn is_mine(&self, part: &State) -> bool {
        let Some(shard) = part.shards.get(&self.shard) else { return false };
        shard.owner.as_ref() == Some(&self.me) && shard.epoch == self.epoch && shard.handover.is_none()
    }
}
