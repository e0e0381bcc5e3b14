//! What an idle shard costs: resident memory and CPU time of a node with 1 and with 1,000 shards that get no reading.
//!
//! A real Mosquitto holds the sessions; the producer is connected to a real Kafka. A benchmark: it prints JSON on standard output, and fails
//! only where the shards do not run.
//!
//!     cargo run --release -p sluice-tests --example idle [shards]

use std::{
    env,
    io::{self, Write as _},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::json;
use sluice_tests::{
    eventually::eventually,
    kafka::Kafka,
    mosquitto::{Mosquitto, Setup},
    node::Node,
    pipeline::Pipeline,
    process,
    scene::wait_running,
    topic::Topic,
};

/// Start and connecting are over, and what they needed is given back.
const WARM_UP: Duration = Duration::from_secs(20);
/// How long CPU time is counted.
const COUNTED: Duration = Duration::from_secs(10);

/// What a node used.
struct Usage {
    resident_bytes: u64,
    /// Of one core.
    cpu_share: f64,
}

fn main() -> anyhow::Result<()> {
    process::be_quiet();
    let many: u32 = env::args().nth(1).map_or(Ok(1_000), |many| many.parse()).context("the number of shards")?;
    ensure!(many > 1, "two shards at least");
    let kafka = Kafka::start()?;
    let (one, all) = (usage_with(1, &kafka)?, usage_with(many, &kafka)?);
    let per_shard = all.resident_bytes.saturating_sub(one.resident_bytes) / u64::from(many - 1);
    let report = json!({
        "shards": many,
        "resident_bytes_per_shard": per_shard,
        "resident_bytes": {"one_shard": one.resident_bytes, "all_shards": all.resident_bytes},
        "cpu_share": {"one_shard": one.cpu_share, "all_shards": all.cpu_share},
    });
    writeln!(io::stdout(), "{report:#}")?;
    Ok(())
}

fn usage_with(shards: u32, kafka: &Kafka) -> anyhow::Result<Usage> {
    let mqtt = Mosquitto::start(&Setup::default())?;
    let topic = Topic::create(&kafka.servers(), "idle", 12, &[])?;
    let mut pipeline = Pipeline::new("idle", &mqtt.url(), &kafka.servers(), &topic.name);
    pipeline.shards = shards;
    let mut node = Node::start_with(&[pipeline.yaml()], "log: {filter: warn}\n")?;
    eventually("every shard is assigned", || {
        let assigned = node.admin()?.assignments()?.len();
        ensure!(assigned == shards as usize, "{assigned} of {shards}");
        Ok(())
    })?;
    wait_running(&node)?;
    thread::sleep(WARM_UP);
    let before = node.process()?.cpu_time()?;
    thread::sleep(COUNTED);
    let process = node.process()?;
    let cpu_share = (process.cpu_time()? - before).as_secs_f64() / COUNTED.as_secs_f64();
    let usage = Usage { resident_bytes: process.resident_bytes()?, cpu_share };
    eprintln!("{shards} shards: {} KiB resident, {:.1} % of a core", usage.resident_bytes >> 10, cpu_share * 100.0);
    node.stop()?;
    topic.delete()?;
    Ok(usage)
}
