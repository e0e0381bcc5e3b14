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

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;

pub use self::{args::Args, report::Report};
use self::{broker::Broker, interrupt::Interrupt, kafka::Kafka};
use crate::registry::Registry;

/// What a node needs in order to take part.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// An empty directory for what the node remembers; removed at the end.
    pub data_dir: PathBuf,
    /// The pipeline to run, a YAML manifest.
    pub manifest: String,
}

/// A node that runs the demo's pipeline.
pub trait Node {
    /// Its tasks.
    fn registry(&self) -> Arc<Registry>;
    /// Stops gracefully: delivers what is in flight, then returns.
    fn stop(self) -> impl Future<Output = anyhow::Result<()>>;
}

/// Runs the demo around the node that `start` gives.
pub async fn run<N: Node>(
    args: &Args,
    start: impl AsyncFnOnce(Surroundings) -> anyhow::Result<N>,
) -> anyhow::Result<Report> {
    let mut interrupt = Interrupt::listen().context("signals cannot be handled")?;
    let data = tempfile::Builder::new().prefix("sluice-demo-").tempdir().context("no temporary directory")?;
    let broker = Broker::start().await?;
    let kafka = Kafka::start()?;
    eprintln!(
        "demo: MQTT broker at {}, Kafka at {}, both inside this process; a mock, nothing is kept",
        broker.address(),
        kafka.bootstrap_servers()
    );
    let surroundings =
        Surroundings { data_dir: data.path().to_owned(), manifest: manifest(args.shards, &broker, &kafka) };
    let node = start(surroundings).await?;
    let driven = course::run(args, &broker, &kafka, &node, &mut interrupt).await;
    let stopped = node.stop().await.context("the node did not stop cleanly");
    let report = match driven {
        Ok((tally, witness)) => {
            stopped?;
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
