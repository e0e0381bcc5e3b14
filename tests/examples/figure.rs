//! The figure: readings per CPU-second of the node process.
//!
//! A backlog waits in the MQTT broker's session while the pipeline is paused; then the node drains it, so that nothing but the
//! node limits. QoS 1, window 65,535, lz4, no headers. A benchmark: it prints, and fails only when readings are missing.
//!
//!     cargo run --release -p sluice-tests --example figure [readings] [headers]

use std::{env, time::Duration};

use anyhow::{Context as _, ensure};
use sluice_proto::admin::v1::PipelineState;
use sluice_tests::{eventually, loadtest::Load, scene::Scene};

const RATE: u32 = 30_000;

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let count: u64 = arguments.next().map_or(Ok(600_000), |count| count.parse()).context("the number of readings")?;
    let has_headers = arguments.next().is_some();
    let mut scene = Scene::set(|pipeline| {
        pipeline.receive_maximum = 65_535;
        pipeline.kafka_properties.push(("compression.type".to_owned(), "lz4".to_owned()));
        if has_headers {
            pipeline.more.push("metadata_headers: [topic, qos]".to_owned());
        }
    })?;
    let url = scene.mqtt.url();
    let admin = scene.node.admin()?;
    admin.pause("readings")?;
    eventually("it is paused", || {
        ensure!(admin.pipelines()?.iter().all(|pipeline| pipeline.state == PipelineState::Paused as i32), "not yet");
        Ok(())
    })?;
    let pid = scene.node.process()?.pid();
    let load = Load {
        devices: 1_000,
        rate: RATE,
        duration: Duration::from_secs(count.div_ceil(u64::from(RATE))),
        settle: Duration::from_secs(120),
        node_pid: Some(pid),
        ..scene.load(&url)
    };
    let mut load = load.start()?;
    load.wait_published(count)?;
    // The connection of before may have been idle for too long.
    scene.node.admin()?.resume("readings")?;
    let report = load.finish()?;
    report.check_exact()?;
    eprintln!("{report:?}");
    let figure = report.readings_per_cpu_second.context("no CPU figure")?;
    eprintln!("{figure:.0} readings per CPU-second");
    Ok(())
}
