//! The MQTT rules of acknowledgement, shown byte by byte by a scripted broker.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluice_tests::{
    eventually,
    kafka::Kafka,
    node::Node,
    pipeline::Pipeline,
    scripted::{Broker, Link, PUBACK, PUBCOMP, PUBREC},
    topic::Topic,
};

/// Long enough for an answer that must not come.
const A_WHILE: Duration = Duration::from_secs(2);

fn pipeline(broker: &Broker, kafka: &str, topic: &Topic, qos: u8) -> Pipeline {
    let mut pipeline = Pipeline::new("scripted", &format!("mqtt://127.0.0.1:{}", broker.port), kafka, &topic.name);
    pipeline.qos = qos;
    pipeline
}

fn expect_ids(link: &mut Link, kind: u8, ids: &[u16]) -> anyhow::Result<()> {
    for id in ids {
        let packet = link.expect(kind)?;
        ensure!(packet.id() == Some(*id), "expected {id}, got {packet:?}");
    }
    Ok(())
}

#[test]
fn a_release_of_an_unknown_id_after_a_restart_is_answered() -> anyhow::Result<()> {
    let kafka = Kafka::shared()?;
    let topic = Topic::create(&kafka, "release", 1, &[])?;
    let broker = Broker::listen()?;
    let mut node = Node::start(&[pipeline(&broker, &kafka, &topic, 2).yaml()])?;
    let mut link = broker.accept_session(false)?;
    link.grant_subscription(2)?;
    link.publish(2, 7, false, "factory/a", b"1")?;
    expect_ids(&mut link, PUBREC, &[7])?;
    node.kill()?;
    drop(link);

    node.start_again()?;
    let mut link = broker.accept_session(true)?;
    // The broker owes a PUBREL for 7 [MQTT-4.4.0-1]; the node has forgotten it.
    link.release(7)?;
    loop {
        let packet = link.next(Duration::from_secs(30))?.context("no PUBCOMP came")?;
        if packet.kind == PUBCOMP {
            ensure!(packet.id() == Some(7), "{packet:?}");
            break;
        }
        // It may subscribe again first.
        ensure!(packet.kind == sluice_tests::scripted::SUBSCRIBE, "{packet:?}");
        link.grant(&packet, 2)?;
    }
    // The id is free again: its next use is a new reading.
    link.publish(2, 7, false, "factory/a", b"2")?;
    expect_ids(&mut link, PUBREC, &[7])?;
    let payloads: Vec<_> = topic.read_all()?.into_iter().map(|record| record.payload).collect();
    ensure!(payloads == [b"1", b"2"], "{payloads:?}");
    Ok(())
}

#[test]
fn an_id_that_is_not_released_is_not_delivered_twice_within_a_session() -> anyhow::Result<()> {
    let kafka = Kafka::shared()?;
    let topic = Topic::create(&kafka, "twice", 1, &[])?;
    let broker = Broker::listen()?;
    let _node = Node::start(&[pipeline(&broker, &kafka, &topic, 2).yaml()])?;
    let mut link = broker.accept_session(false)?;
    link.grant_subscription(2)?;
    link.publish(2, 5, false, "factory/a", b"1")?;
    expect_ids(&mut link, PUBREC, &[5])?;
    // The same id again on the same connection, with and without DUP: PUBREC again, and nothing more [MQTT-4.3.3-10].
    for dup in [true, false] {
        link.publish(2, 5, dup, "factory/a", b"1")?;
        expect_ids(&mut link, PUBREC, &[5])?;
    }
    drop(link);
    // And after a reconnect of the same task.
    let mut link = broker.accept_session(true)?;
    link.publish(2, 5, true, "factory/a", b"1")?;
    loop {
        let packet = link.next(Duration::from_secs(30))?.context("no PUBREC came")?;
        if packet.kind == PUBREC {
            ensure!(packet.id() == Some(5), "{packet:?}");
            break;
        }
        ensure!(packet.kind == sluice_tests::scripted::SUBSCRIBE, "{packet:?}");
        link.grant(&packet, 2)?;
    }
    link.release(5)?;
    expect_ids(&mut link, PUBCOMP, &[5])?;
    topic.check_count(1)?;
    link.publish(2, 5, false, "factory/a", b"2")?;
    expect_ids(&mut link, PUBREC, &[5])?;
    topic.check_count(2)
}

#[test]
fn acknowledgements_leave_in_receive_order_although_kafka_acknowledges_out_of_order() -> anyhow::Result<()> {
    let mut slow = Kafka::start()?;
    // Two partitions of one Kafka answer in any order; a hung Kafka under one of two lanes would too, but that is one broker. Here
    // readings of several topics, with batches of their own, are acknowledged whenever they are.
    let topics: Vec<Topic> =
        (0..4).map(|_| Topic::create(&slow.servers(), "order", 8, &[])).collect::<anyhow::Result<_>>()?;
    let broker = Broker::listen()?;
    let mut pipeline = pipeline(&broker, &slow.servers(), &topics[0], 1);
    pipeline.mapping = topics
        .iter()
        .enumerate()
        .map(|(index, topic)| format!("{{match: \"factory/{index}/+\", topic: {}}}", topic.name))
        .collect();
    let _node = Node::start(&[pipeline.yaml()])?;
    let mut link = broker.accept_session(false)?;
    link.grant_subscription(1)?;
    let ids: Vec<u16> = (0..500).map(|number: u16| number.wrapping_mul(7_919) % 60_000 + 1).collect();
    for (number, id) in ids.iter().enumerate() {
        link.publish(1, *id, false, &format!("factory/{}/{}", number % 4, number % 31), b"x")?;
        if number == 250 {
            // What is in flight piles up, and is acknowledged in one go.
            slow.process()?.pause()?;
        }
    }
    slow.process()?.unpause()?;
    expect_ids(&mut link, PUBACK, &ids)?;
    let counts: i64 = topics.iter().map(Topic::count).sum::<anyhow::Result<i64>>()?;
    ensure!(counts == 500, "{counts} records");
    Ok(())
}

#[test]
fn nothing_is_acknowledged_before_kafka_has_it() -> anyhow::Result<()> {
    let mut kafka = Kafka::start()?;
    let topic = Topic::create(&kafka.servers(), "before", 1, &[])?;
    let broker = Broker::listen()?;
    let _node = Node::start(&[pipeline(&broker, &kafka.servers(), &topic, 1).yaml()])?;
    let mut link = broker.accept_session(false)?;
    link.grant_subscription(1)?;
    link.publish(1, 1, false, "factory/a", b"1")?;
    expect_ids(&mut link, PUBACK, &[1])?;
    kafka.process()?.pause()?;
    link.publish(1, 2, false, "factory/a", b"2")?;
    link.expect_silence(A_WHILE)?;
    kafka.process()?.unpause()?;
    expect_ids(&mut link, PUBACK, &[2])?;
    eventually("both are there", || topic.check_count(2))
}
