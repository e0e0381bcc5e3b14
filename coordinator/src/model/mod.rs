//! Plain data of the coordinator: no IO, no clock, ordered maps only.

mod id;

pub use id::{Epoch, Generation, InvalidName, NodeName, PipelineName, Revision, ShardId};
