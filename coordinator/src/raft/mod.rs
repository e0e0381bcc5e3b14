//! Raft: the only module that names openraft. A group of one today, with the same log, snapshots and rules as a larger one.

mod codec;
mod crc;
mod files;
mod group;
mod identity;
mod log_store;
mod log_writer;
mod network;
mod snapshots;
mod state_machine;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
mod types;

pub(crate) use group::Group;
pub use identity::DataDirError;
