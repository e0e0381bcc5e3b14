//! The table of bad input: what is wrong in a document is refused before anything starts; what is wrong around a node is shown in
//! its shard's status; a strange reading arrives as it is.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sluice_proto::admin::v1::TaskState;
use sluice_tests::{
    device::Device,
    eventually,
    kafka::Kafka,
    mosquitto::{Mosquitto, Setup},
    node::Node,
    pipeline::Pipeline,
    scene::{Scene, wait_running},
    topic::Topic,
};

/// A pipeline whose brokers need not exist: it must not come to that.
fn document(change: impl FnOnce(&mut Pipeline)) -> String {
    let mut pipeline = Pipeline::new("p", "mqtt://127.0.0.1:1", "127.0.0.1:1", "t");
    change(&mut pipeline);
    pipeline.yaml()
}

#[test]
fn a_wrong_document_is_refused_at_start_with_place_key_and_remedy() -> anyhow::Result<()> {
    let good = document(|_| ());
    // What is wrong, the document, what the message must hold besides the file's name.
    let table: [(&str, String, &[&str]); 12] = [
        ("wrong key", good.replace("shards:", "shrads:"), &["shrads", "shards"]),
        (
            "wrong key, deep",
            good.replace("receive_maximum:", "recieve_maximum:"),
            &["recieve_maximum", "receive_maximum"],
        ),
        ("wrong type", good.replace("shards: 1", "shards: many"), &["shards", "number", "many"]),
        ("out of range", good.replace("shards: 1", "shards: 0"), &["shards"]),
        ("no YAML", format!("{good}\n  : ["), &[".yaml:"]),
        ("missing key", good.replace("name: p\n", ""), &["name", "missing"]),
        (
            "unknown Kafka property",
            document(|p| p.kafka_properties.push(("linger.msec".into(), "5".into()))),
            &["linger.msec"],
        ),
        (
            "Kafka property that undoes the guarantee",
            document(|p| p.kafka_properties.push(("acks".into(), "1".into()))),
            &["acks"],
        ),
        ("bad URL", good.replace("mqtt://127.0.0.1:1", "127.0.0.1:1"), &["servers", "mqtt://"]),
        ("unknown scheme", good.replace("mqtt://", "http://"), &["http", "mqtts://"]),
        ("exactly-once", good.replace("at-least-once", "exactly-once"), &["exactly-once", "not built"]),
        ("no mapping", document(|p| p.default_topic = None), &["default_topic"]),
    ];
    for (what, document, parts) in table {
        ensure!(document != good, "{what}: the document was not spoiled");
        let node = Node::prepare(&[document], "")?;
        let output = node.run_refused().context(what)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "{what}: exit code 0\n{stderr}");
        for part in parts.iter().chain(&["00.yaml"]) {
            ensure!(stderr.contains(part), "{what}: {part:?} is not in:\n{stderr}");
        }
        ensure!(!stderr.contains("panicked"), "{what}: {stderr}");
    }
    Ok(())
}

#[test]
fn a_wrong_node_configuration_is_refused_at_start() -> anyhow::Result<()> {
    let table: [(&str, &str, &[&str]); 4] = [
        ("wrong key", "lane: 2\n", &["lane", "lanes"]),
        ("wrong type", "lanes: two\n", &["lanes", "two"]),
        ("duration without unit", "drain_deadline: 5\n", &["drain_deadline"]),
        ("twice", "name: again\n", &["name", "twice"]),
    ];
    for (what, line, parts) in table {
        let output = Node::prepare(&[], line)?.run_refused().context(what)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "{what}: exit code 0\n{stderr}");
        for part in parts.iter().chain(&["node.yaml"]) {
            ensure!(stderr.contains(part), "{what}: {part:?} is not in:\n{stderr}");
        }
    }
    Ok(())
}

#[test]
fn what_is_wrong_around_a_node_is_shown_in_the_status_of_its_shard() -> anyhow::Result<()> {
    let mqtt = Mosquitto::start(&Setup { login: Some(("known".into(), "right".into())), ..Setup::default() })?;
    let kafka = Kafka::shared()?;
    let topic = Topic::create(&kafka, "around", 1, &[])?;
    let dir = tempfile::tempdir()?;
    let (ca, wrong) = (dir.path().join("ca.pem"), dir.path().join("wrong"));
    std::fs::write(&ca, "this is no certificate")?;
    std::fs::write(&wrong, "wrong")?;
    let login =
        |file: &std::path::Path| vec!["username: known".to_owned(), format!("password: ${{file:{}}}", file.display())];
    let missing = dir.path().join("missing");
    // What is wrong, the server, more of the source, what the status must hold.
    let table: [(&str, String, Vec<String>, &str); 4] = [
        ("missing secret file", mqtt.url(), login(&missing), "missing"),
        ("unreadable CA", "mqtts://127.0.0.1:1".into(), vec![format!("ca_file: {}", ca.display())], "ca.pem"),
        ("wrong password", mqtt.url(), login(&wrong), "refused the connection"),
        ("nobody listens", "mqtt://127.0.0.1:1".into(), vec![], "127.0.0.1:1"),
    ];
    for (what, server, source, part) in table {
        let mut pipeline = Pipeline::new("around", &server, &kafka, &topic.name);
        pipeline.source = source;
        let roots = format!("secret_roots: [{}]\n", dir.path().display());
        let node = Node::start_with(&[pipeline.yaml()], &roots).context(what)?;
        eventually(what, || {
            let assignments = node.admin()?.assignments()?;
            let message = &assignments.first().context("no shard")?.message;
            ensure!(message.contains(part), "{part:?} is not in {message:?}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_refused_subscription_is_shown_in_the_status() -> anyhow::Result<()> {
    // Mosquitto 2 grants a subscription that its access list denies and delivers nothing, so the refusing broker is a scripted one.
    let broker = sluice_tests::scripted::Broker::listen()?;
    let mut pipeline = Pipeline::new("refused", &format!("mqtt://127.0.0.1:{}", broker.port), "127.0.0.1:1", "t");
    pipeline.filters = vec!["secret/#".to_owned()];
    let node = Node::start(&[pipeline.yaml()])?;
    let mut link = broker.accept_session(false)?;
    link.grant_subscription(0x87)?; // not authorized
    eventually("the status names the filter", || {
        let assignments = node.admin()?.assignments()?;
        let shard = assignments.first().context("no shard")?;
        ensure!(shard.message.contains("secret/#"), "{:?}", shard.message);
        // Nothing can come by it: somebody must act.
        ensure!(shard.state() == TaskState::Failed, "{:?}", shard.state());
        Ok(())
    })
}

#[test]
fn strange_readings_arrive_as_they_are() -> anyhow::Result<()> {
    let scene = Scene::set(|pipeline| {
        pipeline.filters = vec!["#".to_owned()];
        pipeline.kafka_properties.push(("message.max.bytes".to_owned(), "2000000".to_owned()));
    })?;
    scene.topic.set("max.message.bytes", "2000000")?;
    let binary: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    let table: [(&str, &str, Vec<u8>); 8] = [
        ("empty payload", "factory/empty", vec![]),
        ("1 MiB payload", "factory/big", vec![b'x'; 1 << 20]),
        ("binary payload", "factory/binary", binary),
        ("topic with spaces", "factory/a b/ c", b"1".to_vec()),
        ("topic with $ inside", "factory/$x/$SYS", b"2".to_vec()),
        ("trailing slash", "factory/a/", b"3".to_vec()),
        ("leading slash and empty levels", "//a//", b"4".to_vec()),
        ("non-ASCII topic", "fabrik/größe/温度", b"5".to_vec()),
    ];
    let mut device = Device::connect(scene.mqtt.port)?;
    for (what, topic, payload) in &table {
        device.publish(topic, 1, payload).with_context(|| (*what).to_owned())?;
    }
    eventually("all arrive", || scene.topic.check_count(i64::try_from(table.len())?))?;
    let records = scene.topic.read_all()?;
    for (what, topic, payload) in &table {
        let record = records.iter().find(|record| record.key == topic.as_bytes());
        ensure!(record.is_some_and(|record| record.payload == *payload), "{what}");
    }
    Ok(())
}

#[test]
fn topics_of_the_broker_itself_are_not_readings() -> anyhow::Result<()> {
    let scene = Scene::set(|pipeline| pipeline.filters = vec!["#".to_owned()])?;
    Device::connect(scene.mqtt.port)?.publish("a", 1, b"1")?;
    eventually("it arrives", || scene.topic.check_count(1))?;
    // `#` does not match $SYS/… [MQTT-4.7.2-1]; Mosquitto publishes there every ten seconds.
    std::thread::sleep(Duration::from_secs(11));
    scene.topic.check_count(1)
}

#[test]
fn illegal_characters_of_a_kafka_topic_are_replaced_by_the_stated_rule() -> anyhow::Result<()> {
    let kafka = Kafka::shared()?;
    let mqtt = Mosquitto::start(&Setup::default())?;
    let plain = Topic::create(&kafka, "from", 1, &[])?;
    let mut pipeline = Pipeline::new("rule", &mqtt.url(), &kafka, &plain.name);
    // The device's name becomes part of the topic's; "from 0" is not a name that Kafka takes.
    let spaced = plain.name.replacen('-', " ", 1);
    pipeline.mapping = vec!["{match: \"factory/{name}\", topic: \"{name}\"}".to_owned()];
    pipeline.filters = vec!["factory/+".to_owned()];
    let replaced = Topic::create_exactly(&kafka, &spaced.replace(' ', "_"), 1)?;
    let node = Node::start(&[pipeline.yaml()])?;
    wait_running(&node)?;
    Device::connect(mqtt.port)?.publish(&format!("factory/{spaced}"), 1, b"1")?;
    eventually("it arrives where the rule says", || replaced.check_count(1))
}
