//! Whatever dies under load: nothing that was acknowledged is lost, and what is repeated stays within what was in flight.
//!
//! `SLUICE_TEST_ROUNDS` rounds of each (2), from the seed `SLUICE_TEST_SEED`.

use std::time::Duration;

use anyhow::ensure;
use sluice_tests::{
    device::Device,
    eventually::within,
    kafka::Kafka,
    loadtest::{Load, Report},
    mosquitto::Setup,
    rounds::{Round, rounds},
    scene::Scene,
};

const SHARDS: u32 = 4;
/// Readings that each session may have in flight: what a crash may repeat.
const WINDOW: u16 = 500;
const RATE: u32 = 5_000;

fn scene(kafka: &str) -> anyhow::Result<Scene> {
    Scene::set_with(kafka, &Setup::default(), "", |pipeline| {
        pipeline.shards = SHARDS;
        pipeline.receive_maximum = WINDOW;
    })
}

/// 15 s of load with `fault` at some moment in its first half.
fn under_load(
    scene: &mut Scene,
    round: &mut Round,
    fault: impl FnOnce(&mut Scene, &mut Round) -> anyhow::Result<()>,
) -> anyhow::Result<Report> {
    let url = scene.mqtt.url();
    let mut load = Load { rate: RATE, duration: Duration::from_secs(15), ..scene.load(&url) }.start()?;
    load.wait_published(u64::from(RATE))?;
    let moment = round.below(5_000);
    round.last(Duration::from_millis(moment));
    fault(scene, round)?;
    load.finish()
}

/// Nothing is lost; and everything published was acknowledged in the end, so `lost` has looked at all of it.
fn check(report: &Report, repeats_max: u64) -> anyhow::Result<()> {
    ensure!(report.published == u64::from(RATE) * 15 && report.acknowledged == report.published, "{report:?}");
    report.check_complete()?;
    ensure!(report.duplicated <= repeats_max, "more than {repeats_max} repeated: {report:?}");
    Ok(())
}

/// What a stop of Mosquitto may repeat: a window of each shard that is unacknowledged, and one more whose acks Mosquitto has not read,
/// where it says that it sends so many again (DUP). 2.0.11 exceeds a window once readings have queued up behind a full one.
fn repeated_by_mosquitto(scene: &Scene, shards: u32) -> anyhow::Result<u64> {
    let window = u64::from(shards) * u64::from(WINDOW);
    let redelivered = scene.node.metric("sluice_readings_redelivered_total")?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    Ok((redelivered as u64).clamp(window, 2 * window))
}

#[test]
fn a_killed_node_loses_nothing_and_repeats_at_most_what_was_in_flight() -> anyhow::Result<()> {
    rounds(|round| {
        let mut scene = scene(&Kafka::shared()?)?;
        let report = under_load(&mut scene, round, |scene, round| {
            scene.node.kill()?;
            let moment = round.below(2_000);
            round.last(Duration::from_millis(moment));
            scene.node.start_again()
        })?;
        check(&report, u64::from(SHARDS) * u64::from(WINDOW))?;
        scene.wait_settled()?;
        Ok(())
    })
}

#[test]
fn a_node_that_hangs_loses_and_repeats_nothing() -> anyhow::Result<()> {
    rounds(|round| {
        let mut scene = scene(&Kafka::shared()?)?;
        let report = under_load(&mut scene, round, |scene, round| {
            scene.node.process()?.pause()?;
            round.last(Duration::from_secs(5));
            scene.node.process()?.unpause()
        })?;
        check(&report, 0)
    })
}

#[test]
fn kafka_killed_and_ten_seconds_down_loses_nothing() -> anyhow::Result<()> {
    let mut kafka = Kafka::start()?;
    rounds(|round| {
        let mut scene = scene(&kafka.servers())?;
        let report = under_load(&mut scene, round, |_, round| {
            kafka.kill()?;
            round.last(Duration::from_secs(10));
            kafka.start_again()
        })?;
        check(&report, u64::from(SHARDS) * u64::from(WINDOW))?;
        scene.wait_settled()?;
        Ok(())
    })
}

#[test]
fn kafka_hung_for_twenty_seconds_loses_nothing() -> anyhow::Result<()> {
    let mut kafka = Kafka::start()?;
    rounds(|round| {
        let mut scene = scene(&kafka.servers())?;
        let report = under_load(&mut scene, round, |_, round| {
            kafka.process()?.pause()?;
            round.last(Duration::from_secs(20));
            kafka.process()?.unpause()
        })?;
        check(&report, u64::from(SHARDS) * u64::from(WINDOW))?;
        scene.wait_settled()?;
        Ok(())
    })
}

/// librdkafka has errors to tell before anything asks it for events; delivery reports behind them must not wait for ever.
#[test]
fn a_node_that_starts_before_kafka_delivers_and_settles_once_kafka_is_there() -> anyhow::Result<()> {
    let mut kafka = Kafka::start()?;
    rounds(|round| {
        let mut scene = Scene::set_with(&kafka.servers(), &Setup::default(), "", |pipeline| {
            pipeline.shards = SHARDS;
            pipeline.kafka_properties.push(("debug".to_owned(), "broker".to_owned()));
        })?;
        scene.node.stop()?;
        kafka.kill()?;
        scene.node.start_again()?;
        let moment = round.below(3_000);
        round.last(Duration::from_millis(moment));
        let mut device = Device::connect(scene.mqtt.port)?;
        for number in 0..30 {
            device.publish(&format!("factory/zoneA/sensor-{number}/reading"), 1, b"21.5")?;
        }
        kafka.start_again()?;
        within(Duration::from_secs(60), "everything is delivered and acknowledged", || {
            let delivered = scene.wait_settled()?;
            ensure!(delivered == 30, "{delivered} delivered");
            scene.topic.check_count(30)
        })
    })
}

/// Stops Mosquitto by SIGTERM under load and starts it again within three seconds.
fn restart_mosquitto(round: &mut Round, shards: u32) -> anyhow::Result<(Scene, Report)> {
    let setup = Setup { is_persistent: true, ..Setup::default() };
    let mut scene = Scene::set_with(&Kafka::shared()?, &setup, "", |pipeline| {
        pipeline.shards = shards;
        pipeline.receive_maximum = WINDOW;
        if shards == 1 {
            pipeline.source.push("shared: false".to_owned());
        }
    })?;
    let report = under_load(&mut scene, round, |scene, round| {
        scene.mqtt.stop()?;
        let moment = round.below(3_000);
        round.last(Duration::from_millis(moment));
        scene.mqtt.start_again()
    })?;
    ensure!(report.reconnects > 0 && report.mqtt_sessions_lost == 0, "the fault did not bite: {report:?}");
    Ok((scene, report))
}

#[test]
fn mosquitto_stopped_and_started_loses_nothing_of_a_plain_subscription() -> anyhow::Result<()> {
    rounds(|round| {
        let (scene, report) = restart_mosquitto(round, 1)?;
        // What loadtest itself sent again may have been taken twice by the broker.
        check(&report, repeated_by_mosquitto(&scene, 1)? + report.resent)?;
        scene.wait_settled()?;
        Ok(())
    })
}

/// Mosquitto 2.0.11 brings sessions and queues back from its disk, but not shared subscriptions: what is published before Sluice has
/// subscribed again matches nobody, and the publisher is told so (MQTT 5, reason 0x10). All else arrives.
#[test]
fn mosquitto_stopped_and_started_loses_nothing_of_a_shared_subscription_but_what_it_said_is_for_nobody()
-> anyhow::Result<()> {
    rounds(|round| {
        let (scene, report) = restart_mosquitto(round, SHARDS)?;
        ensure!(report.acknowledged == report.published && report.refused == 0, "{report:?}");
        ensure!(report.lost <= report.for_nobody, "readings are missing: {report:?}");
        let repeats_max = repeated_by_mosquitto(&scene, SHARDS)? + report.resent;
        ensure!(report.duplicated <= repeats_max, "more than {repeats_max} repeated: {report:?}");
        scene.wait_settled()?;
        Ok(())
    })
}
