//! Memory is bounded by what may be in flight, not by how long Kafka is away.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use sluice_tests::{eventually::within, kafka::Kafka, loadtest::Load, mosquitto::Setup, scene::Scene};

/// Two lanes with 64 MiB in flight each (set below) make 128 MiB of payloads and keys; librdkafka keeps about as much again beside
/// them for each record of this size; the rest (program, Raft log, read buffers, allocator) stays below 100 MiB. 384 MiB is that with
/// a margin, and far below the 600 MiB that Kafka's minute of absence sends.
const RESIDENT_BYTES_MAX: u64 = 384 << 20;
const CONFIG: &str = "lanes: 2\nin_flight: {lane_bytes: 64MiB}\n";

#[test]
fn a_minute_without_kafka_under_full_load_does_not_fill_memory() -> anyhow::Result<()> {
    let mut kafka = Kafka::start()?;
    let mut scene = Scene::set_with(&kafka.servers(), &Setup::default(), CONFIG, |pipeline| {
        pipeline.shards = 4;
        pipeline.receive_maximum = 65_535;
    })?;
    let url = scene.mqtt.url();
    let mut load = Load {
        rate: 5_000,
        duration: Duration::from_secs(70),
        payload_bytes: 2_048,
        settle: Duration::from_secs(90),
        ..scene.load(&url)
    }
    .start()?;
    load.wait_published(10_000)?;
    kafka.process()?.pause()?;
    let paused = Instant::now();
    let mut highest = 0;
    let process = scene.node.process()?;
    within(Duration::from_secs(90), "a minute passes", || {
        highest = highest.max(process.resident_bytes()?);
        ensure!(paused.elapsed() >= Duration::from_secs(60), "not yet");
        Ok(())
    })?;
    kafka.process()?.unpause()?;
    eprintln!("highest resident memory: {} MiB", highest >> 20);
    load.finish()?.check_complete()?;
    highest = highest.max(scene.node.process()?.resident_bytes()?);
    ensure!(highest < RESIDENT_BYTES_MAX, "{} MiB resident", highest >> 20);
    Ok(())
}

/// Each shard reads its own socket, and what they may have in flight they have together.
#[test]
fn a_full_lane_is_passed_by_one_read_and_not_by_one_of_every_shard() -> anyhow::Result<()> {
    const BOUND: u64 = 100;
    /// What a session may have unacknowledged, so that a read brings no more; Mosquitto sends twice as much after a reconnect.
    const WINDOW: u16 = 20;
    let mut kafka = Kafka::start()?;
    let config = format!("lanes: 1\nin_flight: {{lane_readings: {BOUND}, shard_readings: {BOUND}}}\n");
    let setup = Setup { max_inflight: WINDOW, ..Setup::default() };
    let mut scene = Scene::set_with(&kafka.servers(), &setup, &config, |pipeline| {
        (pipeline.shards, pipeline.receive_maximum) = (16, WINDOW);
    })?;
    let url = scene.mqtt.url();
    let mut load = Load { rate: 2_000, duration: Duration::from_secs(10), ..scene.load(&url) }.start()?;
    load.wait_published(2_000)?;
    kafka.process()?.pause()?;
    // Meanwhile a full window comes to every socket, and the lane finds them all readable at once.
    scene.node.process()?.pause()?;
    thread::sleep(Duration::from_secs(1));
    scene.node.process()?.unpause()?;
    let in_flight = || -> anyhow::Result<u64> {
        let checkpoints = scene.node.admin()?.checkpoints()?;
        Ok(checkpoints.into_iter().filter_map(|checkpoint| checkpoint.ledger).map(|ledger| ledger.in_flight).sum())
    };
    within(Duration::from_secs(30), "the lane is full", || {
        let count = in_flight()?;
        ensure!(count >= BOUND, "{count} in flight");
        Ok(())
    })?;
    let full_at = Instant::now();
    let mut most = 0;
    within(Duration::from_secs(30), "checkpoints are looked at for a while", || {
        most = most.max(in_flight()?);
        ensure!(full_at.elapsed() >= Duration::from_secs(4), "not yet");
        Ok(())
    })?;
    kafka.process()?.unpause()?;
    load.finish()?.check_complete()?;
    eprintln!("at most {most} in flight");
    ensure!(most < BOUND + 2 * u64::from(WINDOW), "{most} in flight");
    Ok(())
}
