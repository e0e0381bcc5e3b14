//! A node as the coordinator knows it.

use super::{Generation, RaftId};

/// One node that has registered, by the name it has in [`State::members`](super::State::members).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Random per disk: a lost disk is a new Raft member.
    pub raft_id: RaftId,
    /// Grows by one each time the node starts.
    pub generation: Generation,
    /// `host:port` of the node's gRPC listener, empty where it has none.
    pub address: String,
    /// Whether shards may be put on it.
    pub state: MemberState,
}

/// Where a member is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// Takes shards.
    Active,
    /// Keeps its shards until they are moved, gets no new ones.
    Draining,
    /// Has left.
    Gone,
}
