//! proto ⇄ model. What is decoded is checked here once, and nowhere again.

pub(crate) mod admin;
mod checkpoint;
mod command;
pub(crate) mod node;
mod outcome;
mod pipeline;
mod shard;
mod state;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod stored;

use crate::model::{InvalidName, NodeName, PipelineName, ShardId};

/// Bytes that do not say what they should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A field that must be there is not, or has a value that means nothing.
    #[error("{0} is missing or out of range: written by another version, or damaged")]
    Field(&'static str),
    /// Not even the encoding is right.
    #[error("not readable: {0}")]
    Encoding(#[from] prost::DecodeError),
}

fn required<T>(field: Option<T>, what: &'static str) -> Result<T, DecodeError> {
    field.ok_or(DecodeError::Field(what))
}

fn shard_id(pipeline: &str, index: u32) -> Result<ShardId, DecodeError> {
    Ok(ShardId { pipeline: pipeline.parse::<PipelineName>()?, index })
}

fn node_name(name: &str) -> Result<NodeName, DecodeError> {
    Ok(name.parse()?)
}
