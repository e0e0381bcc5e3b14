//! A node has started: its generation becomes one more than the last known one.
//!
//! Its shards keep it as owner by name; that the owner's generation is an old one is what makes the planner assign them anew.

use super::{Outcome, Refusal};
use crate::model::{Generation, Member, MemberState, NodeName, RaftId, State, UnixMs};

/// A node has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterMember {
    /// Stable across restarts and lost disks.
    pub name: NodeName,
    /// Random per disk.
    pub raft_id: RaftId,
    /// `host:port` of the node's gRPC listener, empty where it has none.
    pub address: String,
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
        let generation = state.members.get(&self.name).map_or(Generation(0), |m| m.generation).next();
        let member = Member { raft_id: self.raft_id, generation, address: self.address, state: MemberState::Active };
        state.members.insert(self.name, member);
        Ok(Outcome::Registered { generation })
    }
}
