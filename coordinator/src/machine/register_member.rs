//! A node has started: its generation becomes one more than the last known one.
//!
//! What an operator drained stays drained; what the node itself said of stopping is over. Its shards keep it as owner by name; that the owner's generation is an old one is what makes the planner assign them anew.

use super::{Outcome, Refusal, handover};
use crate::model::{Generation, Member, MemberState, NodeName, RaftId, State, UnixMs};

/// A node has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterMember {
    /// Stable across restarts and lost disks.
    pub name: NodeName,
    /// Random per disk.
    pub raft_id: RaftId,
    /// `host:port` of the node's cluster listener, empty where it has none.
    pub address: String,
    /// `host:port` of the node's admin listener, empty where it has none.
    pub admin_address: String,
}

impl RegisterMember {
    pub(super) fn apply(self, state: &mut State, _at: UnixMs) -> Result<Outcome, Refusal> {
        if let Some((other, _)) =
            state.members.iter().find(|(name, m)| m.raft_id == self.raft_id && **name != self.name)
        {
            return Err(Refusal::not_now(format!(
                "the data directory of node {} belongs to node {other}: start it under that name, or with an empty directory",
                self.name
            )));
        }
        if state.removed.contains(&self.raft_id) {
            return Err(Refusal::member_is_gone(&self.name));
        }
        let before = state.members.get(&self.name);
        let generation = before.map_or(Generation(0), |member| member.generation).next();
        let is_draining = before.is_some_and(|member| member.state == MemberState::Draining || member.was_draining);
        let member = Member {
            raft_id: self.raft_id,
            generation,
            address: self.address,
            admin_address: self.admin_address,
            state: if is_draining { MemberState::Draining } else { MemberState::Active },
            was_draining: false,
        };
        handover::forget_node(state, &self.name);
        state.members.insert(self.name, member);
        Ok(Outcome::Registered { generation })
    }
}
