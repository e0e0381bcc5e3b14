//! The scale: readings a second of 1, 2 and 4 nodes, each with the same small share of a core.
//!
//! A firehose feeds every shard as fast as it acks, so that nothing but the nodes limits; a real Kafka takes what they carry. The nodes form
//! a cluster, Raft and all, and each has as many shards as the others. A benchmark: it prints a table, and JSON on standard output;
//! it fails when something is not in Kafka that was acked, when shards move meanwhile, or when it is not the bound on CPU time that limits
//! the nodes. Needs root, for that bound.
//!
//!     cargo run --release -p sluice-tests --example scale [percent of a core] [seconds]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write as _},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::Serialize;
use sluice_tests::{
    cluster::{Cluster, Setup, View},
    firehose::{Firehose, Flow},
    kafka::Kafka,
    pipeline::Pipeline,
    quota::Quota,
    topic::Topic,
};

const NODES: [usize; 3] = [1, 2, 4];
const SHARDS_PER_NODE: usize = 4;
/// Readings unacknowledged of a shard: at 100 ms to Kafka and back, far more than a share of a core carries.
const WINDOW: u16 = 10_000;
const WELL: Duration = Duration::from_secs(90);
/// Of the time, how much a node is held back at least, some of each period, if nothing but its share limits it.
const HELD_BACK_MIN: f64 = 0.9;
/// Buffers, caches and connections settle.
const WARM_UP: Duration = Duration::from_secs(8);

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    percent_of_a_core: u32,
    seconds: u64,
    rows: Vec<Row>,
}

/// Of so many nodes.
#[derive(Debug, Serialize)]
struct Row {
    nodes: usize,
    readings_per_second: u64,
    /// In the order of the nodes' names.
    per_node: Vec<u64>,
    /// The mean of a node as a part of what one node alone carries.
    of_one: f64,
    /// Cores that each node used.
    node_cores: Vec<f64>,
    /// Of the time, how much was in periods in which the bound stopped the node.
    held_back: Vec<f64>,
    /// Of the machine's CPU time, idle: what nothing needed.
    machine_idle: f64,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let mut number = |name: &'static str, default: u32| {
        arguments.next().map_or(Ok(default), |text| text.parse::<u32>()).context(name)
    };
    let (percent, seconds) = (number("the percent of a core", 10)?, number("the seconds", 20)?);
    let kafka = Kafka::shared()?;
    let mut rows: Vec<Row> = Vec::new();
    for nodes in NODES {
        let mut row = measure(&kafka, nodes, percent, Duration::from_secs(seconds.into()))?;
        let mean = |row: &Row| ratio(row.readings_per_second, row.nodes as u64);
        row.of_one = rows.first().map_or(1.0, |one| mean(&row) / mean(one));
        rows.push(row);
    }
    eprintln!("\nnodes of {percent} % of a core each, {seconds} s");
    eprintln!("nodes  readings/s  per node (least)   of one node's  cores used  machine idle");
    for row in &rows {
        eprintln!(
            "{:>5}  {:>10}  {:>8} ({:>6})  {:>13.1} %  {:>10.2}  {:>10.0} %",
            row.nodes,
            row.readings_per_second,
            row.readings_per_second / row.nodes as u64,
            row.per_node.iter().min().context("a node")?,
            row.of_one * 100.0,
            row.node_cores.iter().sum::<f64>(),
            row.machine_idle * 100.0,
        );
    }
    let report = Report { percent_of_a_core: percent, seconds: seconds.into(), rows };
    writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(())
}

/// What is bounded ends before its bound.
struct Scene {
    cluster: Cluster,
    quotas: Vec<Quota>,
    firehose: Firehose,
    topic: Topic,
}

fn measure(kafka: &str, nodes: usize, percent: u32, time: Duration) -> anyhow::Result<Row> {
    let mut scene = set(kafka, nodes, percent)?;
    let view = scene.cluster.wait_well(nodes * SHARDS_PER_NODE, WELL)?;
    thread::sleep(WARM_UP);
    let (before, start) = (scene.look()?, Instant::now());
    thread::sleep(time);
    let (after, elapsed) = (scene.look()?, start.elapsed().as_secs_f64());
    let now = scene.cluster.wait_well(nodes * SHARDS_PER_NODE, WELL)?;
    ensure!(now.shards == view.shards, "shards have moved meanwhile: {view:?}, then {now:?}");
    // Asked afterwards, so Kafka has at least as much.
    let (acked, held) = (after.acked.values().sum::<u64>(), scene.topic.count()?);
    ensure!(u64::try_from(held)? >= acked, "{acked} readings were acked, Kafka has {held}");
    let names: Vec<_> = scene.cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
    let per_node: Vec<_> = names.iter().map(|name| rate(&view, name, &before, &after, elapsed)).collect();
    let node_cores =
        before.cpu_times.iter().zip(&after.cpu_times).map(|(from, to)| (*to - *from).as_secs_f64() / elapsed);
    let held_back = before.held_back.iter().zip(&after.held_back);
    let held_back = held_back.map(|(from, to)| (*to - *from).as_secs_f64() / elapsed);
    let row = Row {
        nodes,
        readings_per_second: per_node.iter().sum(),
        per_node,
        of_one: 1.0,
        node_cores: node_cores.collect(),
        held_back: held_back.collect(),
        machine_idle: ratio(after.machine.idle - before.machine.idle, after.machine.all - before.machine.all),
    };
    eprintln!(
        "{nodes} nodes: {:?} readings/s with {:.3?} cores, held back {:.2?} of the time",
        row.per_node, row.node_cores, row.held_back
    );
    let least = row.held_back.iter().copied().fold(1.0, f64::min);
    ensure!(
        least >= HELD_BACK_MIN,
        "a node was held back {:.0} % of the time: is the machine busy otherwise?",
        least * 100.0
    );
    Ok(row)
}

/// Nodes that are one cluster, bounded only then: what they need to find each other is not measured.
fn set(kafka: &str, nodes: usize, percent: u32) -> anyhow::Result<Scene> {
    let firehose = Firehose::start(Flow { qos: 1, window: WINDOW, payload_bytes: 0, rate: 0 })?;
    let topic = Topic::create(kafka, "scale", 12, &[])?;
    let config = "lanes: 1\nlog: {filter: warn}\n".to_owned();
    let mut cluster = Cluster::prepare(Setup { nodes, config, ..Setup::default() })?;
    cluster.start()?;
    cluster.wait_well(0, WELL)?;
    let mut quotas = Vec::new();
    for number in 0..nodes {
        quotas.push(Quota::limit(cluster.node(number).process()?.pid(), percent)?);
    }
    let mut pipeline = Pipeline::new("scale", &firehose.url(), kafka, &topic.name);
    pipeline.shards = u32::try_from(nodes * SHARDS_PER_NODE)?;
    pipeline.receive_maximum = WINDOW;
    pipeline.kafka_properties.push(("compression.type".to_owned(), "lz4".to_owned()));
    cluster.admin()?.apply(&pipeline.yaml())?;
    Ok(Scene { cluster, quotas, firehose, topic })
}

/// Everything that a rate needs, at one moment.
struct Look {
    acked: BTreeMap<String, u64>,
    /// By node.
    cpu_times: Vec<Duration>,
    held_back: Vec<Duration>,
    machine: Machine,
}

impl Scene {
    fn look(&mut self) -> anyhow::Result<Look> {
        let cpu_times = (0..self.cluster.size()).map(|number| self.cluster.node(number).process()?.cpu_time());
        let cpu_times = cpu_times.collect::<anyhow::Result<_>>()?;
        let held_back = self.quotas.iter().map(Quota::held_back).collect::<anyhow::Result<_>>()?;
        Ok(Look { cpu_times, held_back, machine: Machine::look()?, acked: self.firehose.counts()?.acked })
    }
}

/// Readings a second of a node's shards.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of some thousands")]
fn rate(view: &View, node: &str, before: &Look, after: &Look, elapsed: f64) -> u64 {
    let acked = |look: &Look, index: u32| look.acked.get(&format!("test-scale-{index}")).copied().unwrap_or_default();
    let readings = view.shards_of(node).into_iter().map(|(_, index)| acked(after, index) - acked(before, index));
    (readings.sum::<u64>() as f64 / elapsed) as u64
}

/// CPU time of the machine, in its own unit.
#[derive(Debug, Clone, Copy)]
struct Machine {
    idle: u64,
    all: u64,
}

impl Machine {
    fn look() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("/proc/stat without cpu")?;
        let times = line.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        // User, nice, system, idle, waiting for disks, interrupts of both kinds, stolen; guests are part of the first.
        let idle = times.get(3..5).context("/proc/stat is too short")?.iter().sum();
        Ok(Self { idle, all: times.iter().take(8).sum() })
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
