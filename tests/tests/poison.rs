//! A reading that Kafka refuses for good is isolated: it becomes a dead letter, or stops its shard; the others arrive.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluice_tests::{
    device::{Device, Extras},
    eventually,
    kafka::Kafka,
    loadtest::Load,
    mosquitto::{Mosquitto, Setup},
    node::Node,
    pipeline::Pipeline,
    scene::{wait_failed, wait_running},
    topic::Topic,
};

const GOOD: u64 = 9_999;
/// Above the topic's max.message.bytes, below the producer's.
const BIG: usize = 20_000;

/// Kafka measures a batch as it comes, compressed: the bad reading must be big all the same.
fn incompressible(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..bytes).map(|_| byte()).collect()
}

struct Stage {
    node: Node,
    mqtt: Mosquitto,
    kafka: String,
    topic: Topic,
    dead: Topic,
}

fn stage(has_dead_letter_topic: bool) -> anyhow::Result<Stage> {
    let kafka = Kafka::shared()?;
    let mqtt = Mosquitto::start(&Setup::default())?;
    let topic = Topic::create(&kafka, "small", 1, &[("max.message.bytes", "10000")])?;
    let dead = Topic::create(&kafka, "dead", 1, &[])?;
    let mut pipeline = Pipeline::new("poison", &mqtt.url(), &kafka, &topic.name);
    pipeline.dead_letter_topic = has_dead_letter_topic.then(|| dead.name.clone());
    // A batch must fit into the small topic, so that only the big reading is refused.
    pipeline.kafka_properties.push(("batch.size".to_owned(), "8000".to_owned()));
    let node = Node::start(&[pipeline.yaml()])?;
    wait_running(&node)?;
    Ok(Stage { node, mqtt, kafka, topic, dead })
}

impl Stage {
    /// 9,999 good readings, and the bad one in their midst.
    fn publish(&self) -> anyhow::Result<u64> {
        let url = self.mqtt.url();
        let mut load = Load {
            devices: 99,
            rate: 3_333,
            duration: Duration::from_secs(3),
            settle: Duration::from_secs(20),
            ..Load::new(&url, &self.kafka, &self.topic.name)
        }
        .start()?;
        load.wait_published(3_000)?;
        let extras = Extras { user_properties: vec![("unit".to_owned(), "°C".to_owned())], ..Extras::default() };
        Device::connect(self.mqtt.port)?.publish_with("factory/zoneX/big/reading", 1, &incompressible(BIG), extras)?;
        let report = load.finish()?;
        ensure!(report.published == GOOD && report.acknowledged == GOOD && report.duplicated == 0, "{report:?}");
        Ok(report.delivered)
    }
}

#[test]
fn one_refused_reading_among_ten_thousand_is_a_dead_letter_with_its_reason() -> anyhow::Result<()> {
    let stage = stage(true)?;
    ensure!(stage.publish()? == GOOD, "a good reading is missing");
    eventually("the dead letter is there", || stage.dead.check_count(1))?;
    let letter = stage.dead.read_all()?.remove(0);
    ensure!(letter.payload.len() == BIG, "the payload is kept");
    let headers =
        format!("{:?}", letter.headers.iter().map(|(k, v)| (k, String::from_utf8_lossy(v))).collect::<Vec<_>>());
    let (_, reason) = letter.headers.iter().find(|(key, _)| key.contains("reason")).with_context(|| headers.clone())?;
    ensure!(String::from_utf8_lossy(reason).to_lowercase().contains("large"), "{headers}");
    for part in ["factory/zoneX/big/reading", "unit", "°C"] {
        ensure!(headers.contains(part), "{part} is missing: {headers}");
    }
    stage.topic.check_count(i64::try_from(GOOD)?)?;
    let ledger = eventually("the ledger says so", || {
        let checkpoints = stage.node.admin()?.checkpoints()?;
        let ledger = checkpoints.first().and_then(|checkpoint| checkpoint.ledger).context("no ledger")?;
        ensure!(ledger.dead_lettered == 1 && ledger.in_flight == 0, "{ledger:?}");
        Ok(ledger)
    })?;
    ensure!(ledger.delivered == GOOD && ledger.unaccounted == 0, "{ledger:?}");
    Ok(())
}

/// librdkafka's own limit is 1,000,000 bytes unless the pipeline raises it: what is over it never reaches Kafka on its own topic.
#[test]
fn a_reading_too_large_for_the_producer_is_a_dead_letter_all_the_same() -> anyhow::Result<()> {
    const BYTES: usize = 1_100_000;
    let kafka = Kafka::shared()?;
    let mqtt = Mosquitto::start(&Setup::default())?;
    let topic = Topic::create(&kafka, "large", 1, &[])?;
    let dead = Topic::create(&kafka, "dead", 1, &[("max.message.bytes", "2000000")])?;
    let mut pipeline = Pipeline::new("large", &mqtt.url(), &kafka, &topic.name);
    pipeline.dead_letter_topic = Some(dead.name.clone());
    let node = Node::start(&[pipeline.yaml()])?;
    wait_running(&node)?;
    let mut device = Device::connect(mqtt.port)?;
    device.publish_with("factory/zoneX/large/reading", 1, &incompressible(BYTES), Extras::default())?;
    device.publish_with("factory/zoneX/small/reading", 1, b"small", Extras::default())?;
    eventually("the dead letter is there", || dead.check_count(1))?;
    eventually("the next reading is delivered", || topic.check_count(1))?;
    ensure!(dead.read_all()?.remove(0).payload.len() == BYTES, "the payload is kept");
    Ok(())
}

#[test]
fn without_a_dead_letter_topic_the_shard_stops_and_nothing_is_lost_once_that_is_mended() -> anyhow::Result<()> {
    let mut stage = stage(false)?;
    stage.publish()?;
    let message = wait_failed(&stage.node)?;
    ensure!(message.contains("dead_letter_topic"), "the status says what to do: {message}");
    stage.topic.set("max.message.bytes", "1000000")?;
    ensure!(stage.node.stop()?.success(), "a clean stop");
    stage.node.start_again()?;
    eventually("all is there", || {
        let mut payloads: Vec<Vec<u8>> = stage.topic.read_all()?.into_iter().map(|record| record.payload).collect();
        payloads.sort();
        payloads.dedup();
        ensure!(payloads.len() as u64 == GOOD + 1, "{} distinct readings", payloads.len());
        Ok(())
    })
}
