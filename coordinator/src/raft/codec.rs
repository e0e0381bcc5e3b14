//! openraft's types ⇄ the stored protobuf messages.

use std::{collections::BTreeMap, io};

use openraft::{EntryPayload, impls::leader_id_adv::LeaderId};
use prost::Message as _;
use sluice_proto::state::v1::{self as pb, log_entry::Payload};

use super::types::{Entry, LogId, Membership, RaftNode, SnapshotMeta, StoredMembership, Vote};
use crate::{model::State, wire::DecodeError};

/// Damage is not repaired here: it stops the node, with the reason.
pub(super) fn damaged<E: Into<DecodeError>>(error: E) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.into())
}

pub(super) fn log_id_to_pb(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
}

pub(super) fn log_id_from_pb(id: &pb::LogId) -> LogId {
    LogId { leader_id: LeaderId { term: id.term, node_id: id.leader }, index: id.index }
}

pub(super) fn encode_log_id(id: &LogId) -> Vec<u8> {
    log_id_to_pb(id).encode_to_vec()
}

pub(super) fn decode_log_id(bytes: &[u8]) -> io::Result<LogId> {
    pb::LogId::decode(bytes).map(|id| log_id_from_pb(&id)).map_err(damaged)
}

pub(super) fn vote_to_pb(vote: &Vote) -> pb::Vote {
    let LeaderId { term, node_id } = vote.leader_id;
    pb::Vote { term, node: node_id, committed: vote.committed }
}

pub(super) fn vote_from_pb(vote: &pb::Vote) -> Vote {
    Vote { leader_id: LeaderId { term: vote.term, node_id: vote.node }, committed: vote.committed }
}

pub(super) fn encode_vote(vote: &Vote) -> Vec<u8> {
    vote_to_pb(vote).encode_to_vec()
}

pub(super) fn decode_vote(bytes: &[u8]) -> io::Result<Vote> {
    pb::Vote::decode(bytes).map(|vote| vote_from_pb(&vote)).map_err(damaged)
}

pub(super) fn entry_to_pb(entry: &Entry) -> pb::LogEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank(pb::Blank {}),
        EntryPayload::Normal(command) => Payload::Command(command.into()),
        EntryPayload::Membership(membership) => Payload::Membership(membership_to_pb(membership)),
    };
    pb::LogEntry { id: Some(log_id_to_pb(&entry.log_id)), payload: Some(payload) }
}

pub(super) fn entry_from_pb(entry: pb::LogEntry) -> io::Result<Entry> {
    let id = entry.id.ok_or_else(|| damaged(DecodeError::Field("log id")))?;
    let payload = match entry.payload.ok_or_else(|| damaged(DecodeError::Field("log entry payload")))? {
        Payload::Blank(pb::Blank {}) => EntryPayload::Blank,
        Payload::Command(command) => EntryPayload::Normal(command.try_into().map_err(damaged::<DecodeError>)?),
        Payload::Membership(membership) => EntryPayload::Membership(membership_from_pb(membership)?),
    };
    Ok(Entry { log_id: log_id_from_pb(&id), payload })
}

pub(super) fn encode_entry(entry: &Entry) -> Vec<u8> {
    entry_to_pb(entry).encode_to_vec()
}

pub(super) fn decode_entry(bytes: &[u8]) -> io::Result<Entry> {
    entry_from_pb(pb::LogEntry::decode(bytes).map_err(damaged)?)
}

fn membership_to_pb(membership: &Membership) -> pb::Membership {
    let configs = membership.get_joint_config().iter();
    let node = |(id, node): (&u64, &RaftNode)| pb::RaftNode {
        id: *id,
        name: node.name.clone(),
        address: node.address.clone(),
    };
    pb::Membership {
        configs: configs.map(|set| pb::VoterSet { voters: set.iter().copied().collect() }).collect(),
        nodes: membership.nodes().map(node).collect(),
    }
}

fn membership_from_pb(membership: pb::Membership) -> io::Result<Membership> {
    let configs = membership.configs.into_iter().map(|set| set.voters.into_iter().collect()).collect::<Vec<_>>();
    let node = |node: pb::RaftNode| (node.id, RaftNode { name: node.name, address: node.address });
    let nodes: BTreeMap<_, _> = membership.nodes.into_iter().map(node).collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| damaged(DecodeError::Field("membership")))
}

/// A snapshot's bytes: the state, and up to where it has applied the log.
pub(super) fn encode_snapshot(meta: &SnapshotMeta, state: &State) -> Vec<u8> {
    let membership = pb::StoredMembership {
        id: meta.last_membership.log_id().as_ref().map(log_id_to_pb),
        membership: Some(membership_to_pb(meta.last_membership.membership())),
    };
    let last_applied = meta.last_log_id.as_ref().map(log_id_to_pb);
    pb::Snapshot { last_applied, membership: Some(membership), state: Some(state.into()) }.encode_to_vec()
}

pub(super) fn decode_snapshot(bytes: &[u8]) -> io::Result<(SnapshotMeta, State)> {
    let snapshot = pb::Snapshot::decode(bytes).map_err(damaged)?;
    let stored = snapshot.membership.ok_or_else(|| damaged(DecodeError::Field("snapshot membership")))?;
    let membership = stored.membership.map(membership_from_pb).transpose()?.unwrap_or_default();
    let state = snapshot.state.ok_or_else(|| damaged(DecodeError::Field("snapshot state")))?;
    let meta = SnapshotMeta {
        last_log_id: snapshot.last_applied.as_ref().map(log_id_from_pb),
        last_membership: StoredMembership::new(stored.id.as_ref().map(log_id_from_pb), membership),
    };
    Ok((meta, state.try_into().map_err(damaged::<DecodeError>)?))
}
