//! The laboratory: real MQTT brokers, a real Kafka, real nodes, and the faults that can be done to them.
//!
//! `loadtest chaos` and the behaviour tests (crate `sluice-tests`) play with the same servers. Everything here is blocking: a test is
//! one linear story, and only [`eventually()`] waits. Nothing that is started outlives the process that started it, even when that
//! is killed ([`process`]). It sees a node only from outside: its ports, its signals, its disk as a place.

pub mod admin;
pub mod certificates;
pub mod cluster;
pub mod disk;
pub mod environment;
pub mod eventually;
pub mod firehose;
pub mod hivemq;
pub mod kafka;
pub mod mosquitto;
pub mod network;
pub mod node;
pub mod pipeline;
pub mod ports;
pub mod process;
pub mod quota;
pub mod rounds;
pub mod tls_front;
pub mod topic;
mod watchdog;

pub use eventually::eventually;
