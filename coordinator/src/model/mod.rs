//! Plain data of the coordinator: no IO, no clock, ordered maps only.

mod checkpoint;
mod id;
mod member;
mod pipeline;
mod shard;
mod state;
mod time;

pub use checkpoint::{Checkpoint, Ledger, Offset, TaskState, TaskStatus, TopicPartition};
pub use id::{
    ClusterId, Epoch, Generation, InvalidName, NAME_BYTES_MAX, NodeName, PipelineName, RaftId, Revision, ShardId,
};
pub use member::{Member, MemberState};
pub use pipeline::{Pipeline, PipelineSpec, PipelineState, SourceIdentity};
pub use shard::{Handover, Owner, Session, Shard};
pub use state::State;
pub use time::UnixMs;
