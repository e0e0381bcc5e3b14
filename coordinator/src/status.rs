//! The cluster as one node sees it.

use crate::{
    core::Core,
    model::{ClusterId, Generation, Member, NodeName},
};

/// The cluster as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The cluster's id; None: this node is in no cluster yet.
    pub cluster_id: Option<ClusterId>,
    /// Raft's term.
    pub term: u64,
    /// The Raft leader, where one is known.
    pub leader: Option<NodeName>,
    /// Raft log index up to which this node has applied.
    pub applied_index: u64,
    /// By name; as applied here, so none on a node that has no copy of the state.
    pub members: Vec<MemberStatus>,
    /// Whether this node is attached to a leader just now.
    pub is_attached: bool,
    /// What this node waits for before it is in a cluster; empty: it is.
    pub joining: String,
}

/// One member of [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its name.
    pub name: NodeName,
    /// Its present generation.
    pub generation: Generation,
    /// `host:port` of its cluster listener, empty where it has none.
    pub address: String,
    /// Votes in the Raft group.
    pub is_voter: bool,
    /// Leads the Raft group.
    pub is_leader: bool,
}

impl Status {
    pub(crate) fn of(core: &Core) -> Self {
        let roles = core.group.roles();
        let attached = core.attachment.leader();
        core.group.view_at(|state, applied_index| {
            let member = |(name, member): (&NodeName, &Member)| MemberStatus {
                name: name.clone(),
                generation: member.generation,
                address: member.address.clone(),
                is_voter: roles.voters.contains(&member.raft_id),
                is_leader: roles.leader == Some(member.raft_id),
            };
            Self {
                cluster_id: core.group.identity().cluster_id,
                term: roles.term,
                leader: core.leader_name(),
                applied_index,
                members: state.members.iter().map(member).collect(),
                is_attached: attached.is_some(),
                joining: core.joining.borrow().clone(),
            }
        })
    }
}
