//! The harness of the behaviour tests: real MQTT brokers, a real Kafka, real nodes, faults, and an oracle that reads Kafka itself.
//!
//! Everything here is blocking: a test is one linear story. Only [`eventually()`] waits. Nothing that is started outlives the test
//! process, even when that is killed ([`process`]).

pub mod admin;
pub mod device;
pub mod environment;
pub mod eventually;
pub mod kafka;
pub mod loadtest;
pub mod mosquitto;
pub mod node;
pub mod pipeline;
pub mod ports;
pub mod process;
pub mod rounds;
pub mod scene;
pub mod scripted;
pub mod topic;
mod watchdog;

pub use eventually::eventually;
