//! What can go wrong with a coordinator, for those who use it.

use std::io;

use crate::{
    attach::Rejection,
    raft::{DataDirError, JoinError},
    transport::TransportError,
};

/// Why a coordinator did not start, or never became part of the cluster.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log or the snapshots cannot be opened.
    #[error("the coordinator's log cannot be opened: {0}")]
    Storage(#[from] io::Error),
    /// The cluster could not be founded or joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The timings contradict each other.
    #[error("raft timings: {0}")]
    Timings(String),
    /// Raft did not start from what is on disk.
    #[error("raft did not start: {0}")]
    Raft(String),
    /// The certificates or the listener cannot be used.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// This node cannot be part of the cluster as it is.
    #[error("this node cannot be part of the cluster: {0}")]
    Refused(#[from] Rejection),
    /// It was stopped before it was part of a cluster.
    #[error("the node is stopping")]
    Stopped,
}

/// Why a proposal has no outcome. A refusal is an outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader took it in time. Nothing was changed.
    #[error("the coordinator has no leader, try again: {0}")]
    Unavailable(String),
    /// It was handed to the log; whether it will be applied is not known.
    #[error("not known whether the change took place, look before trying again: {0}")]
    Unknown(String),
    /// Raft has stopped on this node.
    #[error("the coordinator on this node has stopped: {0}")]
    Stopped(String),
}

impl ProposeError {
    /// Whether the same proposal may simply be made again here.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Unknown(_) | Self::Stopped(_) => false,
        }
    }
}
