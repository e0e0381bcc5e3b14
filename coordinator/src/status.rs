//! The cluster as one node sees it.

use crate::{
    core::Core,
    model::{ClusterId, Generation, Member, MemberState, NodeName, Owner, PipelineState, Shard, ShardId, State},
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
    /// What this node waits for before it is in a cluster, or what keeps it out of its own; empty: nothing.
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
    /// Removed for good.
    pub is_gone: bool,
}

/// A member as the leader hears it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its name and its present generation.
    pub owner: Owner,
    /// It was heard within a lease.
    pub is_alive: bool,
}

/// The cluster as its leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overview {
    /// Members that were not removed.
    pub members: usize,
    /// Those of them that the leader hears.
    pub alive: usize,
    /// Members of the Raft group that vote.
    pub voters: usize,
    /// How many more of the voters may be lost.
    pub failure_tolerance: usize,
    /// Shards that are nobody's, or a node's that the leader does not hear, but for those of paused pipelines.
    pub shards_without_node: usize,
}

impl Overview {
    /// None: this node does not lead.
    pub(crate) fn of(core: &Core) -> Option<Self> {
        let report = core.own_report()?;
        let is_alive = |name: &NodeName| report.nodes.get(name).is_some_and(|node| node.is_alive);
        let has_node = |shard: &Shard| shard.owner.as_ref().is_some_and(|owner| is_alive(&owner.node));
        let without_node = |state: &State| {
            let rests = |id: &ShardId| {
                state.pipelines.get(&id.pipeline).is_some_and(|pipeline| pipeline.state == PipelineState::Paused)
            };
            state.shards.iter().filter(|(id, shard)| !has_node(shard) && !rests(id)).count()
        };
        Some(Self {
            members: report.nodes.len(),
            alive: report.nodes.values().filter(|node| node.is_alive).count(),
            voters: report.peers.values().filter(|peer| peer.is_voter).count(),
            failure_tolerance: report.failure_tolerance(core.settings.lease),
            shards_without_node: core.group.view(without_node),
        })
    }
}

impl Status {
    pub(crate) fn of(core: &Core) -> Self {
        // All that is read of the group, before the state is: see `raft/alone.rs`.
        let (roles, leader) = (core.group.roles(), core.leader_name());
        let attached = core.attachment.leader();
        core.group.view_at(|state, applied_index| {
            let member = |(name, member): (&NodeName, &Member)| MemberStatus {
                name: name.clone(),
                generation: member.generation,
                address: member.address.clone(),
                is_voter: roles.voters.contains(&member.raft_id),
                is_leader: roles.leader == Some(member.raft_id),
                is_gone: member.state == MemberState::Gone,
            };
            Self {
                cluster_id: core.group.identity().cluster_id,
                term: roles.term,
                leader,
                applied_index,
                members: state.members.iter().map(member).collect(),
                is_attached: attached.is_some(),
                joining: core.joining.borrow().clone(),
            }
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Config, Transport, raft::Group};

    #[tokio::test]
    async fn a_node_that_is_attached_nowhere_has_a_status() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path(), "n-0".parse().unwrap());
        let group = Group::open(&config, Transport::plain()).await.unwrap();
        group.found("c1".parse().unwrap()).await.unwrap();
        group.leader_changes().wait_for(|now| now.leader.is_some()).await.unwrap();
        let core = Core::new(config, Arc::new(group));
        let status = Status::of(&core);
        assert!(!status.is_attached);
        assert_eq!(status.leader, Some("n-0".parse().unwrap()));
        core.group.shutdown().await.unwrap();
    }
}
