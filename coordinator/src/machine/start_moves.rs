//! Planned moves: tells owners to release shards, and whose they are to be then. All or nothing, as with assignments.

use super::{Outcome, Refusal};
use crate::model::{Handover, MemberState, NodeName, ShardId, State, UnixMs};

/// Starts planned moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartMoves {
    /// Which shard is to go to which member. One that nobody owns is skipped: it needs no move, only an owner.
    pub moves: Vec<(ShardId, NodeName)>,
}

impl StartMoves {
    pub(super) fn apply(self, state: &mut State, at: UnixMs) -> Result<Outcome, Refusal> {
        self.moves.iter().try_for_each(|(shard, to)| check(state, shard, to))?;
        let mut changed = 0;
        for (id, to) in self.moves {
            let Some(shard) = state.shards.get_mut(&id).filter(|shard| shard.owner.is_some()) else { continue };
            // Told again, the owner gets no more time.
            if shard.handover.as_ref().is_none_or(|handover| handover.to != to) {
                shard.handover = Some(Handover { to, since: at });
                changed += 1;
            }
        }
        Ok(Outcome::Moves { changed })
    }
}

fn check(state: &State, id: &ShardId, to: &NodeName) -> Result<(), Refusal> {
    let shard = state.shards.get(id).ok_or_else(|| Refusal::no_shard(id))?;
    let member = state.members.get(to).ok_or_else(|| Refusal::no_member(to))?;
    if member.state != MemberState::Active {
        return Err(Refusal::not_now(format!("member {to} takes no shards")));
    }
    if shard.owner.as_ref().is_some_and(|owner| owner.node == *to) {
        return Err(Refusal::not_now(format!("shard {id} is on node {to} already")));
    }
    Ok(())
}
