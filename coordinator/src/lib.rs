//! Who runs what, and what has been delivered: the replicated state machine, its leader loop, and the Raft group under it.
//!
//! Knows neither MQTT nor Kafka clients.

pub mod model;
