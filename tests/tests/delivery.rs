//! Readings arrive, once, where and as the pipeline says, whatever the MQTT version and quality of service.

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use sluice_tests::{
    device::{Device, Extras},
    environment, eventually,
    kafka::Kafka,
    loadtest::Load,
    mosquitto::{Mosquitto, Setup},
    node::Node,
    pipeline::Pipeline,
    scene::{Scene, wait_running},
    topic::Topic,
};

#[test]
fn every_version_and_quality_of_service_delivers_once() -> anyhow::Result<()> {
    let kafka = Kafka::shared()?;
    let mqtt = Mosquitto::start(&Setup::default())?;
    let url = mqtt.url();
    let mut cases = Vec::new();
    for (version, qos, shards) in combinations(&["\"5\"", "\"3.1.1\""], &[0, 1, 2], &[1, 8]) {
        let prefix = format!("v{}q{qos}s{shards}", version.trim_matches('"').replace('.', ""));
        let topic = Topic::create(&kafka, &prefix, 3, &[])?;
        let mut pipeline = Pipeline::new(&prefix, &url, &kafka, &topic.name);
        pipeline.filters = vec![format!("{prefix}/#")];
        pipeline.qos = qos;
        pipeline.shards = shards;
        pipeline.source.push(format!("version: {version}"));
        cases.push((prefix, topic, pipeline));
    }
    let documents: Vec<String> = cases.iter().map(|(_, _, pipeline)| pipeline.yaml()).collect();
    let node = Node::start(&documents)?;
    wait_running(&node)?;
    // Three at a time: two cores must also carry the brokers.
    for group in cases.chunks(3) {
        let mut loads = Vec::new();
        for (prefix, topic, pipeline) in group {
            let load = Load {
                prefix,
                qos: pipeline.qos,
                rate: 1_000,
                duration: Duration::from_secs(3),
                ..Load::new(&url, &kafka, &topic.name)
            };
            loads.push((prefix, pipeline.shards, load.start()?));
        }
        for (prefix, shards, load) in loads {
            let report = load.finish()?;
            report.check_exact().with_context(|| prefix.clone())?;
            ensure!(shards > 1 || report.reordered == 0, "{prefix}: {report:?}");
        }
    }
    Ok(())
}

fn combinations<'a>(versions: &[&'a str], qos: &[u8], shards: &[u32]) -> Vec<(&'a str, u8, u32)> {
    let pairs = versions.iter().flat_map(|version| qos.iter().map(move |qos| (*version, *qos)));
    pairs.flat_map(|(version, qos)| shards.iter().map(move |shards| (version, qos, *shards))).collect()
}

#[test]
fn one_shard_keeps_the_order_of_each_device_and_eight_lose_and_repeat_nothing() -> anyhow::Result<()> {
    for shards in [1, 8] {
        let scene = Scene::set(|pipeline| {
            pipeline.shards = shards;
            pipeline.receive_maximum = 10_000;
        })?;
        let url = scene.mqtt.url();
        let report = Load { rate: 10_000, ..scene.load(&url) }.run()?;
        report.check_exact()?;
        ensure!(shards > 1 || report.reordered == 0, "{report:?}");
        ensure!(scene.wait_settled()? == report.published, "the ledger differs from {report:?}");
    }
    Ok(())
}

#[test]
fn rules_decide_topic_and_key_and_the_first_match_wins() -> anyhow::Result<()> {
    let kafka = Kafka::shared()?;
    let (alarms, rest) = (Topic::create(&kafka, "alarms", 2, &[])?, Topic::create(&kafka, "rest", 2, &[])?);
    let scene = Scene::set(|pipeline| {
        pipeline.mapping = vec![
            format!(
                "{{match: \"factory/{{zone}}/{{device}}/alarm\", topic: {}, key: \"{{zone}}-{{device}}\"}}",
                alarms.name
            ),
            format!("{{match: \"factory/+/+/alarm\", topic: {}}}", rest.name),
            format!("{{match: \"factory/rest/#\", topic: {}}}", rest.name),
        ];
    })?;
    let mut device = Device::connect(scene.mqtt.port)?;
    device.publish("factory/a/s1/alarm", 1, b"1")?;
    device.publish("factory/rest/s1", 1, b"2")?;
    device.publish("factory/a/s1/reading", 1, b"3")?;
    let expected =
        [(&alarms, "a-s1", "1"), (&rest, "factory/rest/s1", "2"), (&scene.topic, "factory/a/s1/reading", "3")];
    for (topic, key, payload) in expected {
        eventually(&topic.name, || topic.check_count(1))?;
        let records = topic.read_all()?;
        ensure!(records[0].key == key.as_bytes() && records[0].payload == payload.as_bytes(), "{records:?}");
        ensure!(records[0].headers.is_empty(), "headers are opt-in: {records:?}");
    }
    Ok(())
}

#[test]
fn one_key_goes_to_one_partition_as_javas_partitioner_chooses() -> anyhow::Result<()> {
    let scene = Scene::set(|_| ())?;
    let mut device = Device::connect(scene.mqtt.port)?;
    for number in 0..40 {
        device.publish(&format!("factory/a/s{}", number % 20), 1, b"x")?;
    }
    eventually("all arrive", || scene.topic.check_count(40))?;
    let mut partitions = BTreeMap::new();
    for record in scene.topic.read_all()? {
        let partition = *partitions.entry(record.key.clone()).or_insert(record.partition);
        ensure!(partition == record.partition, "one key in two partitions: {record:?}");
        let hash = murmur2(&record.key) & 0x7fff_ffff;
        ensure!(u32::try_from(partition)? == hash % 4, "Java would choose {}: {record:?}", hash % 4);
    }
    ensure!(partitions.len() == 20, "{partitions:?}");
    Ok(())
}

/// As in org.apache.kafka.common.utils.Utils, written from its description and not shared with the product.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ u32::try_from(data.len()).unwrap_or(0);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[test]
fn metadata_headers_say_what_mqtt_said() -> anyhow::Result<()> {
    let words = "topic, qos, retain, duplicate, received-at, content-type, correlation-data, user-properties";
    let scene = Scene::set(|pipeline| pipeline.more.push(format!("metadata_headers: [{words}]")))?;
    let extras = Extras {
        content_type: Some("application/json".to_owned()),
        correlation_data: Some(vec![0, 255, 7]),
        user_properties: vec![("site".to_owned(), "köln".to_owned()), ("site".to_owned(), "bonn".to_owned())],
        ..Extras::default()
    };
    Device::connect(scene.mqtt.port)?.publish_with("factory/a/s1", 1, b"{}", extras)?;
    eventually("it arrives", || scene.topic.check_count(1))?;
    let record = scene.topic.read_all()?.remove(0);
    for (name, value) in [
        ("mqtt.topic", "factory/a/s1"),
        ("mqtt.qos", "1"),
        ("mqtt.retain", "false"),
        ("mqtt.duplicate", "false"),
        ("mqtt.content-type", "application/json"),
        ("mqtt.user.site", "köln"),
    ] {
        ensure!(record.header(name).as_deref() == Some(value), "{name}: {record:?}");
    }
    ensure!(record.headers.contains(&("mqtt.correlation-data".to_owned(), vec![0, 255, 7])), "{record:?}");
    ensure!(record.headers.contains(&("mqtt.user.site".to_owned(), b"bonn".to_vec())), "{record:?}");
    let received_at: u128 = record.header("mqtt.received-at").context("received-at")?.parse()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
    ensure!(received_at <= now && received_at + 120_000 > now, "{received_at} is not now, {now}");
    Ok(())
}

#[test]
fn a_plain_subscription_also_gets_what_the_broker_retained() -> anyhow::Result<()> {
    let mqtt = Mosquitto::start(&Setup::default())?;
    let kafka = Kafka::shared()?;
    let topic = Topic::create(&kafka, "retained", 1, &[])?;
    let extras = Extras { retain: true, ..Extras::default() };
    Device::connect(mqtt.port)?.publish_with("factory/a/s1", 1, b"old", extras)?;
    let mut pipeline = Pipeline::new("retained", &mqtt.url(), &kafka, &topic.name);
    pipeline.source.push("shared: false".to_owned());
    pipeline.more.push("metadata_headers: [retain]".to_owned());
    let _node = Node::start(&[pipeline.yaml()])?;
    eventually("it arrives", || topic.check_count(1))?;
    let records = topic.read_all()?;
    ensure!(records[0].payload == b"old" && records[0].header("mqtt.retain").as_deref() == Some("true"), "{records:?}");
    Ok(())
}

#[test]
fn readings_come_over_tls_with_a_ca_file_and_a_password_from_a_secret_file() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = Command::new(environment::openssl()?)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        // rustls takes no certificate of an authority for that of a server: this one is its own issuer, and no authority.
        .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mqtt = Mosquitto::start(&Setup {
        login: Some(("sluice".to_owned(), "s3cret".to_owned())),
        tls: Some((certificate.clone(), key)),
        ..Setup::default()
    })?;
    fs::write(dir.path().join("password"), "s3cret\n")?;
    let kafka = Kafka::shared()?;
    let topic = Topic::create(&kafka, "tls", 1, &[])?;
    let url = format!("mqtts://127.0.0.1:{}", mqtt.tls_port.context("it listens for TLS")?);
    let mut pipeline = Pipeline::new("tls", &url, &kafka, &topic.name);
    pipeline.source = vec![
        format!("ca_file: {}", certificate.display()),
        "username: sluice".to_owned(),
        format!("password: ${{file:{}}}", dir.path().join("password").display()),
    ];
    let node = Node::start_with(&[pipeline.yaml()], &format!("secret_roots: [{}]\n", dir.path().display()))?;
    wait_running(&node)?;
    Device::connect_as(mqtt.port, Some(("sluice", "s3cret")))?.publish("factory/a", 1, b"1")?;
    eventually("it arrives", || topic.check_count(1))?;
    let shown = format!("{:?}", node.admin()?.pipelines()?);
    ensure!(!shown.contains("s3cret") && shown.contains("${file:"), "a reference stays a reference: {shown}");
    Ok(())
}
