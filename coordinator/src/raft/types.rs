//! openraft's type parameters, filled in.

use openraft::type_config::alias;

use crate::machine::{Command, Outcome};

/// What Raft itself knows of a voter or learner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RaftNode {
    pub(crate) name: String,
    pub(crate) address: String,
}

openraft::declare_raft_types!(
    /// One group, ids of 64 random bits, commands in, outcomes out. Entries that are no commands have no outcome.
    pub(crate) TypeConfig:
        D = Command,
        R = Option<Outcome>,
        NodeId = u64,
        Node = RaftNode,
);

pub(crate) type LogId = alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = alias::VoteOf<TypeConfig>;
pub(crate) type Entry = alias::EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, RaftNode>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
/// A snapshot travels as the bytes of its protobuf message: the state is a few MB at most.
pub(crate) type Snapshot = alias::SnapshotOf<TypeConfig, Vec<u8>>;
