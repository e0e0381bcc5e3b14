//! A member leaves for good: its disk never registers again, its name may, with another disk.
//!
//! By force it leaves shards behind. They keep naming it until the planner gives them away, as after a crash: what its last
//! word did not tell (`earlier.rs`) is not forgotten. It says nothing about them any more.

use super::{Outcome, Refusal, handover};
use crate::model::{Generation, MemberState, NodeName, State, UnixMs};

/// Removes a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveMember {
    /// Which member.
    pub name: NodeName,
    /// Although it owns shards.
    pub force: bool,
    /// Refused unless the member is in this generation; None: whichever it is in. What is said of one that stops or is absent is not to
    /// concern the one that has started under its name since.
    pub generation: Option<Generation>,
}

impl RemoveMember {
    pub(super) fn apply(self, state: &mut State, _at: UnixMs) -> Result<Outcome, Refusal> {
        let owned = state.shards.values().filter(|shard| shard.owner.as_ref().is_some_and(|o| o.node == self.name));
        let owned = owned.count();
        let member = state.members.get_mut(&self.name).ok_or_else(|| Refusal::no_member(&self.name))?;
        if self.generation.is_some_and(|generation| generation != member.generation) {
            return Err(Refusal::other_generation(&self.name, member.generation));
        }
        let changed = member.state != MemberState::Gone;
        if changed && owned > 0 && !self.force {
            return Err(Refusal::not_now(format!(
                "node {} still owns shards ({owned}): drain it and wait until it has none, or remove it by force if it will not come back",
                self.name
            )));
        }
        (member.state, member.was_draining) = (MemberState::Gone, false);
        let member = Box::new(member.clone());
        state.removed.insert(member.raft_id);
        handover::forget_node(state, &self.name);
        Ok(Outcome::Member { member, changed })
    }
}
