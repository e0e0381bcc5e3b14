//! Gives shards their owners. All or nothing: a plan made on an older state is refused as a whole and made again.
//!
//! What was planned for such a shard is off: this is the decision now.

use super::{Outcome, Refusal};
use crate::model::{MemberState, Owner, ShardId, State, UnixMs};

/// Gives shards their owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignShards {
    /// Each shard at most once; a shard named twice takes the last.
    pub assignments: Vec<ShardAssignment>,
}

/// One shard's new owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardAssignment {
    /// Which shard.
    pub shard: ShardId,
    /// Who is to run it, in its present generation.
    pub owner: Owner,
}

impl AssignShards {
    pub(super) fn apply(self, state: &mut State, at: UnixMs) -> Result<Outcome, Refusal> {
        self.assignments.iter().try_for_each(|assignment| check(state, assignment))?;
        let mut changed = 0;
        for ShardAssignment { shard, owner } in self.assignments {
            let Some(shard) = state.shards.get_mut(&shard) else { continue };
            shard.handover = None;
            if shard.owner.as_ref() != Some(&owner) {
                shard.owner = Some(owner);
                shard.epoch = shard.epoch.next();
                shard.since = at;
                changed += 1;
            }
        }
        Ok(Outcome::Assigned { changed })
    }
}

fn check(state: &State, ShardAssignment { shard, owner }: &ShardAssignment) -> Result<(), Refusal> {
    if !state.shards.contains_key(shard) {
        return Err(Refusal::no_shard(shard));
    }
    let member = state.members.get(&owner.node).ok_or_else(|| Refusal::no_member(&owner.node))?;
    if member.generation != owner.generation {
        return Err(Refusal::not_now(format!(
            "member {} is in generation {}, not {}",
            owner.node, member.generation, owner.generation
        )));
    }
    if member.state != MemberState::Active {
        return Err(Refusal::not_now(format!("member {} takes no shards", owner.node)));
    }
    Ok(())
}
