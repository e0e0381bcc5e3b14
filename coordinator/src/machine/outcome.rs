//! What applying a command came to.

use crate::model::{Epoch, Generation, Member, NodeName, Pipeline, PipelineName, Revision, ShardId};

/// What applying a command came to. The same on every voter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The cluster has its id.
    Initialized,
    /// The node is a member, in this generation.
    Registered {
        /// The generation that this start of the node has from now on.
        generation: Generation,
    },
    /// A pipeline was looked at and perhaps changed.
    Pipeline {
        /// As it is now, or as it was last if it is gone.
        pipeline: Box<Pipeline>,
        /// False: it was so already.
        changed: bool,
    },
    /// Shards have owners.
    Assigned {
        /// How many got another owner or another generation of it.
        changed: usize,
    },
    /// A member was looked at and perhaps changed.
    Member {
        /// As it is now.
        member: Box<Member>,
        /// False: it was so already.
        changed: bool,
    },
    /// Planned moves have been started or called off.
    Moves {
        /// How many shards that concerned; the others were so already, or could not be moved.
        changed: usize,
    },
    /// Checkpoints were taken in, but for these.
    Recorded {
        /// The entries that were refused; all others stand.
        refused: Vec<RefusedCheckpoint>,
    },
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people: what is wrong and what to do.
    pub message: String,
}

/// The sorts of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// What the command names does not exist.
    NotFound,
    /// Not possible in the state that things are in.
    NotNow,
}

impl Refusal {
    pub(super) fn not_now(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::NotNow, message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::NotFound, message: message.into() }
    }

    pub(super) fn no_pipeline(name: &PipelineName) -> Self {
        Self::not_found(format!("there is no pipeline {name}"))
    }

    pub(super) fn no_member(name: &NodeName) -> Self {
        Self::not_found(format!("there is no member {name}"))
    }

    pub(super) fn no_shard(id: &ShardId) -> Self {
        Self::not_found(format!("there is no shard {id}"))
    }

    pub(super) fn other_generation(name: &NodeName, present: Generation) -> Self {
        Self::not_now(format!("node {name} has started anew, as generation {present}"))
    }

    pub(super) fn member_is_gone(name: &NodeName) -> Self {
        Self::not_now(format!("node {name} was removed: it joins anew only with an empty data directory"))
    }

    pub(super) fn pipeline_is_ending(name: &PipelineName) -> Self {
        Self::not_now(format!("pipeline {name} is being deleted: wait until it is gone, then apply it again"))
    }
}

/// A checkpoint that was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("checkpoint of shard {shard} at epoch {epoch} is refused: {reason}")]
pub struct RefusedCheckpoint {
    /// Whose it was.
    pub shard: ShardId,
    /// The epoch it came with.
    pub epoch: Epoch,
    /// Why.
    pub reason: CheckpointRefusal,
}

/// Why a checkpoint was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointRefusal {
    /// The shard is gone, with its pipeline or by retiring.
    #[error("there is no such shard")]
    NoShard,
    /// The shard is assigned anew: its old task must stop.
    #[error("the shard is at epoch {current}")]
    StaleEpoch {
        /// The shard's epoch.
        current: Epoch,
    },
    /// The epoch is right, but the sender is not the owner: it has released the shard already.
    #[error("the sender does not own the shard")]
    NotOwner,
    /// The session's pipeline revision is none that the shard can have seen.
    #[error("the pipeline has no revision {revision}")]
    UnknownRevision {
        /// What the session claims.
        revision: Revision,
    },
}
