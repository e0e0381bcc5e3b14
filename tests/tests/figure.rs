//! Readings per CPU-second of the node: a queue that waits in the MQTT broker is drained, so that nothing but the node limits.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluice_proto::admin::v1::PipelineState;
use sluice_tests::{eventually, loadtest::Load, scene::Scene};

/// Below this something is wrong in the shape: a lock, a task or a write per reading.
const READINGS_PER_CPU_SECOND_MIN: f64 = 200_000.0;

#[test]
fn a_cpu_second_carries_two_hundred_thousand_readings() -> anyhow::Result<()> {
    let mut scene = Scene::set(|pipeline| {
        pipeline.receive_maximum = 65_535;
        pipeline.kafka_properties.push(("compression.type".to_owned(), "lz4".to_owned()));
    })?;
    let url = scene.mqtt.url();
    let admin = scene.node.admin()?;
    admin.pause("readings")?;
    eventually("it is paused", || {
        ensure!(admin.pipelines()?.iter().all(|pipeline| pipeline.state == PipelineState::Paused as i32), "not yet");
        Ok(())
    })?;
    let pid = scene.node.process()?.pid();
    let count = 300_000;
    let mut load = Load {
        devices: 1_000,
        rate: 30_000,
        duration: Duration::from_secs(10),
        node_pid: Some(pid),
        ..scene.load(&url)
    }
    .start()?;
    load.wait_published(count)?;
    admin.resume("readings")?;
    let report = load.finish()?;
    report.check_exact()?;
    let figure = report.readings_per_cpu_second.context("no CPU figure")?;
    eprintln!("{figure:.0} readings per CPU-second");
    ensure!(figure >= READINGS_PER_CPU_SECOND_MIN, "{figure:.0} readings per CPU-second");
    Ok(())
}
