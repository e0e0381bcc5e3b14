//! loadtest's verdict, shown with a bridge that is wrong on purpose: it says what is missing, repeated and out of order, and
//! survives what its brokers do.

use std::time::Duration;

use anyhow::ensure;
use sluice_tests::{
    kafka::Kafka,
    loadtest::{Load, Report},
    mosquitto::{Mosquitto, Setup},
    topic::Topic,
};

use crate::bad_bridge::{BadBridge, Fault};

fn verdict(fault: Fault) -> anyhow::Result<Report> {
    let kafka = Kafka::shared()?;
    let topic = Topic::create(&kafka, "loadtest", 4, &[])?;
    let mqtt = Mosquitto::start(&Setup::default())?;
    let bridge = BadBridge::start(mqtt.port, &kafka, &topic.name, fault)?;
    let report = Load {
        // Device by device, so that 200 readings later is after a younger reading of the same device.
        devices: 10,
        rate: 2_000,
        duration: Duration::from_secs(2),
        settle: Duration::from_secs(5),
        ..Load::new(&mqtt.url(), &kafka, &topic.name)
    }
    .run()?;
    bridge.stop()?;
    ensure!(report.published == 4_000 && report.acknowledged == 4_000, "{report:?}");
    Ok(report)
}

#[test]
fn a_sound_run_is_complete() -> anyhow::Result<()> {
    let report = verdict(Fault::None)?;
    report.check_exact()?;
    ensure!(report.reordered == 0 && report.delivered == 4_000, "{report:?}");
    ensure!(report.p50_ms > 0.0 && report.p99_ms >= report.p50_ms, "{report:?}");
    Ok(())
}

#[test]
fn a_lost_reading_is_seen() -> anyhow::Result<()> {
    let report = verdict(Fault::Drop)?;
    ensure!(report.lost == 1 && report.undelivered == 1 && report.duplicated == 0, "{report:?}");
    Ok(())
}

#[test]
fn a_repeated_reading_is_seen() -> anyhow::Result<()> {
    let report = verdict(Fault::Repeat)?;
    ensure!(report.lost == 0 && report.duplicated == 1 && report.reordered == 0, "{report:?}");
    Ok(())
}

#[test]
fn a_reading_behind_a_younger_one_is_seen() -> anyhow::Result<()> {
    let report = verdict(Fault::Delay)?;
    ensure!(report.lost == 0 && report.duplicated == 0 && report.reordered == 1, "{report:?}");
    Ok(())
}

#[test]
fn a_restart_of_the_mqtt_broker_makes_it_send_again_what_was_not_acknowledged() -> anyhow::Result<()> {
    for qos in [1, 2] {
        let kafka = Kafka::shared()?;
        let topic = Topic::create(&kafka, "loadtest-restart", 1, &[])?;
        let mut mqtt = Mosquitto::start(&Setup { is_persistent: true, ..Setup::default() })?;
        let mut load = Load {
            qos,
            rate: 2_000,
            duration: Duration::from_secs(4),
            settle: Duration::from_secs(5),
            ..Load::new(&mqtt.url(), &kafka, &topic.name)
        }
        .start()?;
        load.wait_published(2_000)?;
        mqtt.stop()?;
        mqtt.start_again()?;
        let report = load.finish()?;
        // Nobody carries anything here: all is lost, and all was acknowledged in the end.
        ensure!(report.published == 8_000 && report.acknowledged == 8_000 && report.lost == 8_000, "{report:?}");
        ensure!(report.reconnects > 0 && report.mqtt_sessions_lost == 0, "{report:?}");
    }
    Ok(())
}
