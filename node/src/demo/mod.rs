//! `sluice demo`: an embedded MQTT broker, an embedded Kafka, sensors, a node and a reader of Kafka, in one process; or several nodes, in
//! processes of their own.
//!
//! Only what nodes do is real: the broker keeps sessions in memory, and the Kafka is a mock without durable data.
//! The account of what arrived is kept by [`tally`] from the sensors and the reader alone, never from a node's ledger.

mod args;
mod broker;
mod cluster;
mod course;
mod flows;
mod gateway;
mod interrupt;
mod kafka;
mod nodes;
mod pace;
mod progress;
mod reading;
mod report;
mod sensors;
mod snapshot;
mod tally;
mod view;
mod witness;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, bail};

pub use self::{args::Args, cluster::Killed, report::Report};
use self::{broker::Broker, flows::Flows, interrupt::Interrupt, kafka::Kafka, nodes::Nodes};

/// Runs the demo from the start of its servers to the last reading.
///
/// # Errors
/// A part of it does not start or stop, or a node fails.
pub async fn run(args: &Args) -> anyhow::Result<Report> {
    let mut interrupt = Interrupt::listen().context("signals cannot be handled")?;
    let data = tempfile::Builder::new().prefix("sluice-demo-").tempdir().context("no temporary directory")?;
    let flows = Arc::new(Mutex::new(Flows::new(args.shards)));
    let broker = Broker::start(Arc::clone(&flows)).await?;
    let kafka = Kafka::start()?;
    eprintln!(
        "demo: MQTT broker at {}, Kafka at {}, both inside this process; a mock, nothing is kept",
        broker.address(),
        kafka.bootstrap_servers()
    );
    let manifest = manifest(args.shards, &broker, &kafka);
    let mut nodes = tokio::select! {
        nodes = start(args.nodes, data.path(), &manifest, flows) => nodes?,
        () = interrupt.next() => bail!("interrupted before the nodes were ready"),
    };
    let driven = course::run(args, &broker, &kafka, &mut nodes, &mut interrupt).await;
    let kills = nodes.kills();
    let stopped = nodes.stop().await;
    let report = match driven {
        Ok((tally, witness)) => {
            stopped?;
            // Only now nothing writes any more: what is in Kafka is all that ever will be.
            witness.finish().await?;
            Ok(Report::of(&course::lock(&tally), kills))
        }
        Err(error) => Err(error),
    };
    broker.stop().await?;
    drop(kafka);
    data.close().context("the demo's temporary directory could not be removed")?;
    report
}

async fn start(count: u8, dir: &Path, manifest: &str, flows: Arc<Mutex<Flows>>) -> anyhow::Result<Nodes> {
    if count == 1 {
        return Nodes::here(dir, manifest).await;
    }
    eprintln!("demo: {count} nodes start, each a process of its own, and form a cluster");
    Nodes::processes(usize::from(count), dir, manifest, flows).await
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
