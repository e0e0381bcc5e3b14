//! More and fewer shards under load, and what fewer rests on: what a broker does with what it has queued when a session unsubscribes.
//! MQTT leaves it open [MQTT-3.10.4]; the README says what these tests see.

use std::{collections::BTreeSet, time::Duration};

use anyhow::ensure;
use sluice_proto::admin::v1::TaskState;
use sluice_tests::{
    admin::Admin,
    device::Device,
    eventually,
    hivemq::HiveMq,
    kafka::Kafka,
    loadtest::Load,
    mosquitto::{Mosquitto, Setup},
    node::Node,
    pipeline::Pipeline,
    scene::wait_running,
    subscriber::Subscriber,
    topic::Topic,
};

const FEW: u32 = 2;
const MANY: u32 = 6;
/// Small, so that most of what waits is queued and not in flight.
const WINDOW: u16 = 20;
/// A broker that has something to send sends it sooner.
const QUIET: Duration = Duration::from_secs(3);
const QUEUED: usize = 500;

#[test]
fn shards_come_and_go_under_load_on_mosquitto_and_nothing_is_lost() -> anyhow::Result<()> {
    let mqtt = Mosquitto::start(&Setup { max_inflight: WINDOW, ..Setup::default() })?;
    let queued = resize(&mqtt.url(), mqtt.port)?;
    // More than windows: their queues came after UNSUBSCRIBE.
    let windows = u64::from(MANY - FEW) * u64::from(WINDOW);
    ensure!(queued > windows, "only {queued} readings came to the shards that went, {windows} may have been in flight");
    Ok(())
}

#[test]
fn shards_come_and_go_under_load_on_hivemq_and_nothing_is_lost() -> anyhow::Result<()> {
    let mqtt = HiveMq::start([127, 0, 0, 1].into(), false)?;
    // What was queued goes to the shards that stay.
    resize(&mqtt.url(), mqtt.port)?;
    Ok(())
}

/// From few to many and back, the latter while Kafka hangs, so that much is queued and all windows are full. Gives how many readings
/// the shards that went have still delivered.
fn resize(url: &str, port: u16) -> anyhow::Result<u64> {
    let mut kafka = Kafka::start()?;
    let topic = Topic::create(&kafka.servers(), "resized", 4, &[])?;
    let mut pipeline = Pipeline::new("resized", url, &kafka.servers(), &topic.name);
    (pipeline.shards, pipeline.receive_maximum) = (FEW, WINDOW);
    pipeline.source.push("delivers_after_unsubscribe: true".to_owned());
    let mut node = Node::start_with(&[pipeline.yaml()], "drain_deadline: 2s\n")?;
    wait_running(&node)?;
    let servers = kafka.servers();
    let mut load =
        Load { rate: 1_000, duration: Duration::from_secs(25), ..Load::new(url, &servers, &topic.name) }.start()?;
    load.wait_published(1_000)?;

    let admin = node.admin()?;
    admin.apply(&Pipeline { shards: MANY, ..pipeline.clone() }.yaml())?;
    eventually("the new shards carry readings", || {
        let busy = delivered(&admin, 0..MANY)?.iter().filter(|delivered| **delivered > 0).count();
        ensure!(busy == MANY as usize, "{busy} shards have delivered something");
        Ok(())
    })?;

    kafka.process()?.pause()?;
    load.wait_published(7_000)?;
    let before: u64 = delivered(&admin, FEW..MANY)?.iter().sum();
    admin.apply(&pipeline.yaml())?;
    eventually("the shards that go are drained", || {
        let assignments = admin.assignments()?;
        let draining = assignments.iter().filter(|shard| shard.state() == TaskState::Draining).count();
        ensure!(draining == (MANY - FEW) as usize, "{draining} are: {assignments:?}");
        Ok(())
    })?;
    kafka.process()?.unpause()?;
    let mut after = before;
    eventually("only the shards that stay are left", || {
        after = after.max(delivered(&admin, FEW..MANY)?.iter().sum());
        let count = admin.assignments()?.len();
        ensure!(count == FEW as usize, "{count} shards");
        Ok(())
    })?;
    load.finish()?.check_complete()?;

    ensure!(node.stop()?.success(), "a clean stop");
    for index in 0..MANY {
        let session = Subscriber::resume(port, &format!("test-resized-{index}"))?;
        ensure!(session.is_session_present == (index < FEW), "session {index}: {}", session.is_session_present);
        session.end()?;
    }
    Ok(after - before)
}

/// What these shards have delivered over their lives; 0 for one that has said nothing.
fn delivered(admin: &Admin, shards: std::ops::Range<u32>) -> anyhow::Result<Vec<u64>> {
    let checkpoints = admin.checkpoints()?;
    let of = |index| checkpoints.iter().find(|checkpoint| checkpoint.index == index)?.ledger.as_ref();
    Ok(shards.map(|index| of(index).map_or(0, |ledger| ledger.delivered)).collect())
}

#[test]
fn fewer_shards_are_refused_where_nobody_vouches_for_the_broker() -> anyhow::Result<()> {
    let mqtt = Mosquitto::start(&Setup::default())?;
    let kafka = Kafka::shared()?;
    let topic = Topic::create(&kafka, "kept", 1, &[])?;
    let mut pipeline = Pipeline::new("kept", &mqtt.url(), &kafka, &topic.name);
    pipeline.shards = 2;
    let node = Node::start(&[pipeline.yaml()])?;
    wait_running(&node)?;
    let admin = node.admin()?;
    pipeline.shards = 1;
    let Err(refused) = admin.apply(&pipeline.yaml()) else { anyhow::bail!("it was not refused") };
    ensure!(refused.code() == tonic::Code::FailedPrecondition, "{refused:?}");
    ensure!(refused.message().contains("source.mqtt.delivers_after_unsubscribe: true"), "{refused:?}");
    ensure!(admin.assignments()?.len() == 2, "a refusal changes nothing");
    Ok(())
}

/// Full windows, MQTT 5. MQTT 3.1.1 was the same when it was measured by hand.
#[test]
fn mosquitto_delivers_all_it_had_queued_to_whom_unsubscribes() -> anyhow::Result<()> {
    for max_inflight in [WINDOW, 0] {
        let mqtt = Mosquitto::start(&Setup { max_inflight, ..Setup::default() })?;
        let mut member = Subscriber::resume(mqtt.port, "member")?;
        member.subscribe("$share/group/a/#")?;
        publish(mqtt.port, QUEUED)?;
        member.unsubscribe("$share/group/a/#")?;
        Device::connect(mqtt.port)?.publish("a/1", 1, b"for nobody")?;
        let came = member.take_until_quiet(QUIET)?;
        let expected: Vec<_> = (0..QUEUED).map(|number| number.to_string()).collect();
        ensure!(came == expected, "{} came with a window of {max_inflight}", came.len());
    }
    Ok(())
}

/// Its queue is the group's. So fewer shards lose nothing, and the last one to go leaves behind what is not in flight.
#[test]
fn hivemq_keeps_its_queue_for_the_group_and_delivers_to_who_is_subscribed() -> anyhow::Result<()> {
    let mqtt = HiveMq::start([127, 0, 0, 1].into(), false)?;
    let filter = "$share/group/a/#";
    let mut member = Subscriber::resume(mqtt.port, "member")?;
    member.subscribe(filter)?;
    publish(mqtt.port, QUEUED)?;
    let mut other = Subscriber::resume(mqtt.port, "other")?;
    other.subscribe(filter)?;
    member.unsubscribe(filter)?;
    let (first, second) = (other.take_until_quiet(QUIET)?, member.take_until_quiet(QUIET)?);
    check_each_once("one member leaves", &first, &second)?;

    publish(mqtt.port, QUEUED)?;
    other.unsubscribe(filter)?;
    let first = other.take_until_quiet(QUIET)?;
    ensure!(first.len() < QUEUED, "nobody is subscribed, and all came: the README says otherwise");
    member.subscribe(filter)?;
    let second = member.take_until_quiet(QUIET)?;
    check_each_once("the last member leaves, and one comes", &first, &second)
}

fn check_each_once(what: &str, first: &[String], second: &[String]) -> anyhow::Result<()> {
    let all: BTreeSet<_> = first.iter().chain(second).collect();
    let (sum, count) = (first.len() + second.len(), all.len());
    ensure!(sum == QUEUED && count == QUEUED, "{what}: {} and {}, {count} different", first.len(), second.len());
    Ok(())
}

fn publish(port: u16, count: usize) -> anyhow::Result<()> {
    let mut device = Device::connect(port)?;
    (0..count).try_for_each(|number| device.publish("a/1", 1, number.to_string().as_bytes()))
}
