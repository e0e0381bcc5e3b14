//! A Sluice node: takes the shards that the coordinator assigns to it and carries their readings from MQTT to Kafka.

mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod demo;
mod kubernetes;
pub mod lane;
mod lease;
pub mod pipeline;
mod pipeline_files;
pub mod registry;
pub mod task;
pub mod telemetry;
