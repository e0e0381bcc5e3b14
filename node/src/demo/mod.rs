//! `sluice demo`: an embedded MQTT broker, an embedded Kafka, sensors, a node and a reader of Kafka, in one process.
//!
//! Only what the node does is real: the broker keeps sessions in memory, and the Kafka is a mock without durable data.
//! The account of what arrived is kept by [`tally`] from the sensors and the reader alone, never from the node's ledger.

mod broker;
mod gateway;
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

use std::{
    io::IsTerminal as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::time::{interval, timeout};

pub use self::report::Report;
use self::{
    broker::Broker,
    kafka::Kafka,
    progress::{Progress, Wish},
    sensors::Sensors,
    snapshot::Snapshot,
    tally::Tally,
    witness::Witness,
};
use crate::{cli::Output, registry::Registry};

/// How long the node may take to connect all its shards.
const SUBSCRIBE_DEADLINE: Duration = Duration::from_secs(20);
/// How long nothing may arrive before what is missing counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often progress is shown.
const TURN: Duration = Duration::from_millis(100);

/// Shows readings travelling from simulated sensors through MQTT and Sluice to Kafka.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Nothing else has to be installed. The MQTT broker and the Kafka live in this process on free loopback ports; the Kafka \
is a mock that keeps nothing. A reader of Kafka outside the node counts what arrives, by device and number.

Examples:
  sluice demo                              a live view, until q or Ctrl-C
  sluice demo --duration 15s -o json       one line: {published, delivered, lost, duplicated, p50_ms, p99_ms}
  sluice demo --rate 2000 --devices 50 --shards 2

Exit code 1: a reading that the MQTT broker had acknowledged did not arrive, or nothing did.")]
pub struct Args {
    /// How long the sensors publish, for example 15s or 2m; until q or Ctrl-C without it
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Readings a second, of all sensors together
    #[arg(long, value_name = "COUNT", default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Simulated sensors
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=99_999))]
    devices: u32,
    /// Shards of the pipeline
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    shards: u32,
    /// How the result is printed; a live view needs a terminal and 'table'
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

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

impl Args {
    /// Whether the demo draws on the terminal, where log lines would disturb it.
    pub fn is_live(&self) -> bool {
        self.output == Output::Table && std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
    }

    /// How the result is to be printed.
    pub fn output(&self) -> Output {
        self.output
    }
}

/// Runs the demo around the node that `start` gives.
pub async fn run<N: Node>(
    args: &Args,
    start: impl AsyncFnOnce(Surroundings) -> anyhow::Result<N>,
) -> anyhow::Result<Report> {
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
    let driven = drive(args, &broker, &kafka, &node).await;
    let stopped = node.stop().await.context("the node did not stop cleanly");
    let report = match driven {
        Ok((tally, witness)) => {
            stopped?;
            // Only now nothing writes any more: what is in Kafka is all that ever will be.
            witness.finish().await?;
            Ok(Report::of(&lock(&tally)))
        }
        Err(error) => Err(error),
    };
    broker.stop().await?;
    drop(kafka);
    data.close().context("the demo's temporary directory could not be removed")?;
    report
}

/// From the first subscription to the last arrival; what is left to do is stop the node and read Kafka to its end.
async fn drive<N: Node>(
    args: &Args,
    broker: &Broker,
    kafka: &Kafka,
    node: &N,
) -> anyhow::Result<(Arc<Mutex<Tally>>, Witness)> {
    let shards = usize::try_from(args.shards)?;
    if timeout(SUBSCRIBE_DEADLINE, broker.subscribed(shards)).await.is_err() {
        let states: Vec<_> =
            node.registry().tasks().iter().map(|task| format!("{}: {:?}", task.shard, task.status())).collect();
        bail!("only {} of {shards} shards subscribed; {}", broker.subscribers(), states.join("; "));
    }
    let start = Instant::now();
    let tally = Arc::new(Mutex::new(Tally::new(args.devices)?));
    let witness = Witness::start(&kafka.bootstrap_servers(), Arc::clone(&tally), start).await?;
    let sensors = sensors::Config {
        broker: broker.address(),
        devices: args.devices,
        rate: args.rate,
        tally: Arc::clone(&tally),
        start,
    };
    let sensors = Sensors::start(sensors).await?;
    let mut progress = Progress::new(args.is_live(), args.duration)?;
    let snapshot = || Snapshot::take(&mut lock(&tally), &node.registry(), start.elapsed());
    let sensors = publish(sensors, args.duration, &mut progress, snapshot).await?;
    progress.say("the sensors stop; waiting for what is on its way");
    sensors.stop().await?;
    drain(&tally, &mut progress, snapshot).await?;
    Ok((tally, witness))
}

/// Lets the sensors publish for `duration`, or until the operator has seen enough.
async fn publish(
    mut sensors: Sensors,
    duration: Option<Duration>,
    progress: &mut Progress,
    snapshot: impl Fn() -> Snapshot,
) -> anyhow::Result<Sensors> {
    let mut turn = interval(TURN);
    let end = tokio::time::sleep(duration.unwrap_or(Duration::MAX));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return Ok(sensors),
            _ = tokio::signal::ctrl_c() => return Ok(sensors),
            error = sensors.failed() => return Err(error),
            _ = turn.tick() => if progress.show(&snapshot())? == Wish::End { return Ok(sensors) },
        }
    }
}

/// Waits until everything acknowledged has been seen in Kafka, or nothing comes any more.
async fn drain(tally: &Mutex<Tally>, progress: &mut Progress, snapshot: impl Fn() -> Snapshot) -> anyhow::Result<()> {
    let mut turn = interval(TURN);
    let mut last = (0, Instant::now());
    loop {
        turn.tick().await;
        progress.show(&snapshot())?;
        let totals = lock(tally).totals();
        if totals.delivered != last.0 {
            last = (totals.delivered, Instant::now());
        }
        if totals.missing == 0 || last.1.elapsed() > SILENCE_MAX {
            return Ok(());
        }
    }
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
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

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}; give for example 15s or 2m"))?;
    Duration::try_from(parsed).ok().filter(|duration| !duration.is_zero()).ok_or_else(|| "give more than 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("2m 5s"), Ok(Duration::from_secs(125)));
        assert!(duration("0s").is_err() && duration("-1s").is_err() && duration("soon").is_err());
    }
}
