//! Raft: the only module that names openraft. A node's log, snapshots and votes, and the way to other nodes' Raft.

mod alone;
mod codec;
mod crc;
mod discard;
mod files;
mod group;
mod identity;
mod log_store;
mod log_writer;
mod messages;
mod network;
mod recover;
mod roles;
mod service;
mod snapshots;
mod state_machine;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
mod types;
mod write;

pub use discard::discard;
pub(crate) use group::Group;
pub use group::JoinError;
pub use identity::{DataDirError, is_in_cluster};
pub use recover::{RecoverError, Recovery, recover};
pub(crate) use roles::Roles;
pub(crate) use types::RaftNode;
pub(crate) use write::WriteError;
