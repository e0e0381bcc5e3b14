//! Who runs what, and what has been delivered: the replicated state machine, its leader loop, and the Raft group under it.
//!
//! Knows neither MQTT nor Kafka clients.

pub mod attach;
mod client;
mod clock;
mod config;
mod coordinator;
mod core;
mod error;
mod join;
mod leader;
pub mod machine;
pub mod model;
pub mod plan;
mod raft;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod script;
pub mod service;
mod status;
mod transport;
mod wire;

pub use attach::{Change, Lease, Parts, Rejection};
pub use coordinator::{
    Config, Coordinator, Heard, MemberStatus, Overview, ProposeError, StartError, Status, Timings, now,
};
pub use leader::handovers::Handovers;
pub use raft::{DataDirError, JoinError, RecoverError, Recovery, discard, is_in_cluster, recover};
pub use transport::{Transport, TransportError};
pub use wire::DecodeError;
