//! What operators are shown of the state.

use std::collections::BTreeMap;

use sluice_proto::{admin::v1 as pb, state::v1 as state_pb};

use super::node::millis;
use crate::{
    leader::report::{PeerReport, Report},
    model::{
        Checkpoint, Ledger, Member, MemberState, NodeName, Pipeline, PipelineState, RaftId, Shard, ShardId, State,
        TaskState, UnixMs,
    },
};

impl From<&Pipeline> for pb::Pipeline {
    fn from(pipeline: &Pipeline) -> Self {
        let state = match pipeline.state {
            PipelineState::Running => pb::PipelineState::Running,
            PipelineState::Paused => pb::PipelineState::Paused,
            PipelineState::Deleting => pb::PipelineState::Deleting,
            PipelineState::Discarding => pb::PipelineState::Discarding,
        };
        Self {
            name: pipeline.spec.name.to_string(),
            revision: pipeline.revision.0,
            state: state.into(),
            shards: pipeline.spec.shards.get(),
            filters: pipeline.spec.filters.clone(),
            applied_at_unix_ms: pipeline.applied_at.0,
            manifest: pipeline.spec.manifest.clone(),
        }
    }
}

/// One shard's assignment, with the word of its last checkpoint.
pub(crate) fn assignment(state: &State, id: &ShardId, shard: &Shard) -> pb::Assignment {
    // What an earlier owner said is over.
    let present = state.checkpoints.get(id).filter(|checkpoint| checkpoint.epoch == shard.epoch);
    let status = present.map(|checkpoint| &checkpoint.status);
    pb::Assignment {
        pipeline: id.pipeline.to_string(),
        index: id.index,
        node: shard.owner.as_ref().map(|owner| owner.node.to_string()).unwrap_or_default(),
        generation: shard.owner.as_ref().map_or(0, |owner| owner.generation.0),
        epoch: shard.epoch.0,
        since_unix_ms: shard.since.0,
        state: status.map_or(pb::TaskState::Unspecified, |status| status.state.into()).into(),
        message: status.map(|status| status.message.clone()).unwrap_or_default(),
        handover_to: shard.handover.as_ref().map(|handover| handover.to.to_string()).unwrap_or_default(),
        is_retiring: shard.is_retiring,
    }
}

/// The members as operators see them; what only the leader knows is left out where it did not answer.
pub(crate) fn nodes(state: &State, report: Option<&Report>, leader: Option<&NodeName>) -> Vec<pb::Node> {
    let mut loads: BTreeMap<&NodeName, (u32, u32, u32)> = BTreeMap::new();
    for shard in state.shards.values() {
        let Some(owner) = &shard.owner else { continue };
        loads.entry(&owner.node).or_default().0 += 1;
        if let Some(handover) = &shard.handover {
            loads.entry(&owner.node).or_default().1 += 1;
            loads.entry(&handover.to).or_default().2 += 1;
        }
    }
    let node = |(name, member): (&NodeName, &Member)| {
        let (shards, leaving, coming) = loads.get(name).copied().unwrap_or_default();
        let health = report.and_then(|report| report.nodes.get(name));
        pb::Node {
            name: name.to_string(),
            state: pb::NodeState::from(member.state).into(),
            generation: member.generation.0,
            raft_id: member.raft_id.0,
            address: member.address.clone(),
            admin_address: member.admin_address.clone(),
            is_alive: report.map(|_| health.is_some_and(|health| health.is_alive)),
            stable_for_ms: health.filter(|health| health.is_alive).map(|health| millis(health.stable_for)),
            role: role(name, member, report, leader).into(),
            shards,
            leaving,
            coming,
        }
    };
    state.members.iter().map(node).collect()
}

fn role(name: &NodeName, member: &Member, report: Option<&Report>, leader: Option<&NodeName>) -> pb::RaftRole {
    let Some(report) = report else { return pb::RaftRole::Unspecified };
    match report.peers.get(&member.raft_id) {
        _ if member.state == MemberState::Gone && !report.peers.contains_key(&member.raft_id) => pb::RaftRole::None,
        Some(_) if leader == Some(name) => pb::RaftRole::Leader,
        Some(peer) if peer.is_voter => pb::RaftRole::Voter,
        Some(_) => pb::RaftRole::Learner,
        None => pb::RaftRole::None,
    }
}

impl From<MemberState> for pb::NodeState {
    fn from(state: MemberState) -> Self {
        match state {
            MemberState::Active => Self::Active,
            MemberState::Draining => Self::Draining,
            MemberState::Stopping => Self::Stopping,
            MemberState::Gone => Self::Gone,
        }
    }
}

/// Voters, then learners, each ordered by name.
pub(crate) fn peers(report: &Report, leader: Option<&NodeName>) -> (Vec<pb::RaftPeer>, Vec<pb::RaftPeer>) {
    let peer = |id: &RaftId, peer: &PeerReport| pb::RaftPeer {
        name: peer.name.clone(),
        raft_id: id.0,
        address: peer.address.clone(),
        is_leader: leader.is_some_and(|leader| leader.as_str() == peer.name),
        lag_entries: peer.matched.map(|matched| report.last_log.saturating_sub(matched)),
        last_contact_ms: peer.last_contact.map(millis),
    };
    let of = |is_voter: bool| {
        let peers = report.peers.iter().filter(|(_, peer)| peer.is_voter == is_voter);
        let mut peers: Vec<_> = peers.map(|(id, report)| peer(id, report)).collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        peers
    };
    (of(true), of(false))
}

/// One shard's checkpoint, as old as it is `now`.
pub(crate) fn checkpoint(id: &ShardId, checkpoint: &Checkpoint, now: UnixMs) -> pb::Checkpoint {
    let stored = super::checkpoint::to_pb((id, checkpoint));
    let offset =
        |o: state_pb::NextOffset| pb::NextOffset { topic: o.topic, partition: o.partition, next_offset: o.next_offset };
    pb::Checkpoint {
        pipeline: stored.pipeline,
        index: stored.index,
        epoch: stored.epoch,
        taken_at_unix_ms: stored.taken_at_unix_ms,
        age_ms: now.millis_since(checkpoint.taken_at),
        ledger: Some((&checkpoint.ledger).into()),
        next_offsets: stored.next_offsets.into_iter().map(offset).collect(),
        oldest_unacked_ms: stored.oldest_unacked_ms,
        released: stored.released,
    }
}

impl From<&Ledger> for pb::Ledger {
    fn from(ledger: &Ledger) -> Self {
        Self {
            received: ledger.received,
            delivered: ledger.delivered,
            filtered: ledger.filtered,
            dead_lettered: ledger.dead_lettered,
            returned: ledger.returned,
            in_flight: ledger.in_flight,
            unaccounted: ledger.unaccounted(),
            acked: ledger.acked,
            redelivered: ledger.redelivered,
            sessions_lost: ledger.sessions_lost,
        }
    }
}

impl From<TaskState> for pb::TaskState {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Connecting => Self::Connecting,
            TaskState::Running => Self::Running,
            TaskState::BackPressure => Self::BackPressure,
            TaskState::Draining => Self::Draining,
            TaskState::Stopped => Self::Stopped,
            TaskState::Failed => Self::Failed,
            TaskState::Retired => Self::Retired,
        }
    }
}
