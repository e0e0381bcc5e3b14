//! `sluice demo`: an embedded MQTT broker, an embedded Kafka, sensors, a node and a reader of Kafka, in one process.
//!
//! Only what the node does is real: the broker keeps sessions in memory, and the Kafka is a mock without durable data.
//! The account of what arrived is kept by [`tally`] from the sensors and the reader alone, never from the node's ledger.

mod args;
mod broker;
mod course;
mod gateway;
mod interrupt;
mod kafka;
mod pace;
mod progress;
mod reading;
mod report;
mod sensors;
mod snapshot;
mod tally;
mod view;
mod witness;

use std::{collections::BTreeMap, fs, num::NonZeroUsize, path::Path, thread};

use anyhow::{Context as _, ensure};

pub use self::{args::Args, report::Report};
use self::{broker::Broker, interrupt::Interrupt, kafka::Kafka};
use crate::{
    app,
    config::{self, Host, Overrides},
};

/// Runs the demo from the start of its servers to the last reading.
///
/// # Errors
/// A part of it does not start or stop, or the node fails.
pub async fn run(args: &Args) -> anyhow::Result<Report> {
    let mut interrupt = Interrupt::listen().context("signals cannot be handled")?;
    let data = tempfile::Builder::new().prefix("sluice-demo-").tempdir().context("no temporary directory")?;
    let broker = Broker::start().await?;
    let kafka = Kafka::start()?;
    eprintln!(
        "demo: MQTT broker at {}, Kafka at {}, both inside this process; a mock, nothing is kept",
        broker.address(),
        kafka.bootstrap_servers()
    );
    let node = start_node(data.path(), &manifest(args.shards, &broker, &kafka)).await?;
    let driven = course::run(args, &broker, &kafka, &node, &mut interrupt).await;
    let is_clean = node.stop().await;
    let report = match driven {
        Ok((tally, witness)) => {
            ensure!(is_clean, "the node did not stop cleanly");
            // Only now nothing writes any more: what is in Kafka is all that ever will be.
            witness.finish().await?;
            Ok(Report::of(&course::lock(&tally)))
        }
        Err(error) => Err(error),
    };
    broker.stop().await?;
    drop(kafka);
    data.close().context("the demo's temporary directory could not be removed")?;
    report
}

/// A node as `sluice serve` starts it, with its disk and its pipeline beneath `dir`.
async fn start_node(dir: &Path, manifest: &str) -> anyhow::Result<app::Node> {
    let (data, pipelines) = (dir.join("data"), dir.join("pipelines"));
    fs::create_dir(&pipelines)?;
    fs::write(pipelines.join("demo.yaml"), manifest)?;
    let flags = Overrides {
        name: Some("demo".to_owned()),
        cluster: Some("demo".to_owned()),
        data_dir: Some(data.display().to_string()),
        pipelines_dir: Some(pipelines.display().to_string()),
        admin_listen: Some("127.0.0.1:0".to_owned()),
        http_listen: Some("127.0.0.1:0".to_owned()),
        ..Overrides::default()
    };
    let host = Host { name: None, cores: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN) };
    let config = config::Node::load(None, &BTreeMap::new(), &flags, &host)?;
    let mut node = app::Node::start(config).await?;
    node.up().await?;
    Ok(node)
}

fn manifest(shards: u32, broker: &Broker, kafka: &Kafka) -> String {
    format!(
        "\
name: demo
source:
  mqtt:
    servers: [mqtt://{broker}]
    topics: [factory/+/+/reading]
    qos: 1
shards: {shards}
delivery: at-least-once
mapping:
  - match: factory/{{zone}}/{{device}}/reading
    topic: {topic}
    key: \"{{device}}\"
sink:
  kafka:
    bootstrap.servers: {kafka}
    compression.type: lz4
",
        broker = broker.address(),
        topic = kafka::TOPIC,
        kafka = kafka.bootstrap_servers(),
    )
}
