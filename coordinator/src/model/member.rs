//! A node as the coordinator knows it.

use super::{Generation, RaftId};

/// One node that has registered, by the name it has in [`State::members`](super::State::members).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Random per disk: a lost disk is a new Raft member.
    pub raft_id: RaftId,
    /// Grows by one each time the node starts.
    pub generation: Generation,
    /// `host:port` of the node's cluster listener, empty where it has none.
    pub address: String,
    /// `host:port` of the node's admin listener, empty where it has none.
    pub admin_address: String,
    /// Whether shards may be put on it.
    pub state: MemberState,
    /// Only while [`MemberState::Stopping`]: an operator had drained it before, so it starts again as draining.
    pub was_draining: bool,
}

/// Where a member is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// Takes shards.
    Active,
    /// An operator's word: its shards are moved away a few at a time, it gets no new ones. Stays so over restarts.
    Draining,
    /// The node's own word: it is about to end, so its shards are moved away at once. Over when it starts again.
    Stopping,
    /// Removed, with this disk for ever.
    Gone,
}
