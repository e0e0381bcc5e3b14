//! Good manifests, and for every bad one the exact words.

mod bad;

use super::*;
use crate::{
    config::{Secret, SecretRoots, Value},
    pipeline::source::session::Qos,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The example of the README.
const EXAMPLE: &str = r#"name: factory-readings
source:
  mqtt:
    servers: [mqtts://mqtt.example.com:8883]
    username: iot_user
    password: ${file:/run/secrets/mqtt/password}
    topics: [factory/+/+/reading]
    qos: 1
shards: 8
delivery: at-least-once
mapping:                       # first match wins
  - match: factory/{zone}/{device}/reading
    topic: iot-sensor-readings
    key: "{device}"
sink:
  kafka:
    bootstrap.servers: kafka-0.kafka:9092
    compression.type: lz4
"#;

/// A good manifest in lines that cases replace: `(line to replace, by what)`.
const BASE: &str = r"name: readings
source:
  mqtt:
    servers: [mqtt://broker]
    topics: [factory/+/+/reading]
    extra:
shards: 2
mapping:
  - match: factory/#
    topic: t
sink:
  kafka:
    bootstrap.servers: kafka:9092
    extra2:
extra3:
";

/// The base with some lines replaced; what is left of the placeholders is removed.
fn with(changes: &[(&str, &str)]) -> String {
    let mut text = BASE.to_owned();
    for (old, new) in changes {
        assert!(text.contains(old), "{old}");
        text = text.replacen(old, new, 1);
    }
    for unused in ["    extra:\n", "    extra2:\n", "extra3:\n"] {
        text = text.replace(unused, "");
    }
    text
}

#[test]
fn the_example_of_the_readme_is_good() -> Outcome {
    let manifest = Manifest::parse(EXAMPLE, "example.yaml")?;
    assert_eq!(manifest.source.servers[0].to_string(), "mqtts://mqtt.example.com:8883");
    assert_eq!(manifest.source.password, Some(Value::File("/run/secrets/mqtt/password".into())));
    let subscription = manifest.source.subscription(manifest.source.topics[0].as_str());
    assert_eq!(subscription, "$share/factory-readings/factory/+/+/reading");
    assert_eq!(
        (manifest.shards.get(), manifest.delivery, manifest.source.qos),
        (8, Delivery::AtLeastOnce, Qos::AtLeastOnce)
    );
    let route = manifest.mapping.route("factory/north/d7/reading")?;
    assert_eq!((route.topic.as_str(), route.key.as_slice()), ("iot-sensor-readings", &b"d7"[..]));

    let spec = manifest.spec(&ClusterName::default());
    assert_eq!((spec.name.as_str(), spec.shards.get(), spec.manifest.as_str()), ("factory-readings", 8, EXAMPLE));
    assert_eq!(spec.filters, ["factory/+/+/reading"]);
    assert!(spec.must_keep_shards, "unless the user says more of the broker");
    let source = spec.source;
    assert_eq!(
        (source.share_group.as_deref(), source.client_id_prefix.as_str()),
        (Some("factory-readings"), "sluice-factory-readings")
    );
    assert_eq!(source.servers, ["mqtts://mqtt.example.com:8883"]);
    Ok(())
}

#[test]
fn what_is_shown_is_the_same_pipeline_with_its_defaults() -> Outcome {
    let shown = Manifest::parse(EXAMPLE, "example.yaml")?.to_yaml()?;
    assert_eq!(shown, EFFECTIVE);
    assert_eq!(Manifest::parse(&shown, "shown")?.to_yaml()?, EFFECTIVE);
    Ok(())
}

const EFFECTIVE: &str = r#"name: factory-readings
source:
  mqtt:
    servers:
    - mqtts://mqtt.example.com:8883
    version: "5"
    username: iot_user
    password: ${file:/run/secrets/mqtt/password}
    topics:
    - factory/+/+/reading
    qos: 1
    share_group: factory-readings
    shared: true
    keep_alive: 30s
    connect_timeout: 10s
    receive_maximum: 8192
    packet_bytes_max: 16MiB
    delivers_after_unsubscribe: false
shards: 8
delivery: at-least-once
mapping:
- match: factory/{zone}/{device}/reading
  topic: iot-sensor-readings
  key: "{device}"
metadata_headers: []
sink:
  kafka:
    acks: all
    allow.auto.create.topics: "false"
    bootstrap.servers: kafka-0.kafka:9092
    client.id: sluice
    compression.type: lz4
    enable.idempotence: "true"
    linger.ms: "1"
    max.in.flight.requests.per.connection: "5"
    message.timeout.ms: "0"
    partitioner: murmur2_random
    queue.buffering.max.kbytes: "2147483647"
    queue.buffering.max.messages: "0"
    retries: "2147483647"
    topic.metadata.propagation.max.ms: "5000"
"#;

#[test]
fn secrets_in_the_manifest_are_never_shown() -> Outcome {
    let text = with(&[
        ("    extra:", "    username: u\n    password: hunter2"),
        (
            "    extra2:",
            "    security.protocol: sasl_ssl\n    sasl.mechanisms: PLAIN\n    sasl.username: u\n    sasl.password: hunter2",
        ),
    ]);
    let manifest = Manifest::parse(&text, "p.yaml")?;
    let resolved = manifest.resolve(&SecretRoots::new(Vec::new()))?;
    let mut debug = format!("{:?}{resolved:?}{:?}", manifest.source, manifest.sink);
    debug.push_str(&manifest.to_yaml()?);
    assert!(!debug.contains("hunter2"), "{debug}");
    assert_eq!(resolved.password.as_ref().map(Secret::expose), Some(&b"hunter2"[..]));
    Ok(())
}

#[test]
fn delivery_chooses_the_qos() -> Outcome {
    for (changes, qos) in [
        ("", Qos::AtLeastOnce),
        ("delivery: at-least-once", Qos::AtLeastOnce),
        ("delivery: at-most-once", Qos::AtMostOnce),
    ] {
        assert_eq!(Manifest::parse(&with(&[("extra3:", changes)]), "p.yaml")?.source.qos, qos);
    }
    let exact = Manifest::parse(&with(&[("    extra:", "    qos: 2")]), "p.yaml")?;
    assert_eq!(exact.source.qos, Qos::ExactlyOnce);
    Ok(())
}

#[test]
fn plain_subscriptions_have_one_shard_and_no_group() -> Outcome {
    let text = with(&[("    extra:", "    shared: false"), ("shards: 2", "shards: 1")]);
    let manifest = Manifest::parse(&text, "p.yaml")?;
    assert_eq!(manifest.source.subscription(manifest.source.topics[0].as_str()), "factory/+/+/reading");
    assert_eq!(manifest.spec(&ClusterName::default()).source.share_group, None);
    Ok(())
}

#[test]
fn a_default_topic_takes_what_no_rule_matches() -> Outcome {
    let text = with(&[("[factory/+/+/reading]", "[other/#]"), ("extra3:", "default_topic: rest.{topic}")]);
    let route = Manifest::parse(&text, "p.yaml")?.mapping.route("other/a b")?;
    assert_eq!((route.topic.as_str(), route.key.as_slice()), ("rest.other_a_b", &b"other/a b"[..]));
    Ok(())
}

#[test]
fn every_error_is_told_at_once() {
    let text = with(&[
        ("name: readings", "name: R"),
        ("    extra:", "    qos: 7\n    colour: red"),
        ("shards: 2", "shards: many"),
        ("topic: t", "topic: a b"),
        ("    extra2:", "    group.id: g\n    acks: 0"),
        ("extra3:", "no_such_key: 1"),
    ]);
    let keys = Manifest::parse(&text, "p.yaml")
        .map(drop)
        .map_err(|errors| errors.iter().map(|error| format!("{} {}", error.place, error.key)).collect::<Vec<_>>());
    let want = [
        "p.yaml:1 name",
        "p.yaml:8 shards",
        "p.yaml:6 source.mqtt.qos",
        "p.yaml:7 source.mqtt.colour",
        "p.yaml:11 mapping[0].topic",
        "p.yaml:15 sink.kafka.group.id",
        "p.yaml:16 sink.kafka.acks",
        "p.yaml:17 no_such_key",
    ];
    assert_eq!(keys, Err(want.map(str::to_owned).to_vec()));
}

#[test]
fn what_the_node_lacks_is_told_by_key_and_file() -> Outcome {
    let dir = tempfile::tempdir()?;
    let root = dir.path().display();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, "no certificate")?;
    let text = with(&[
        ("[mqtt://broker]", "[mqtts://broker]"),
        (
            "    extra:",
            &format!("    username: u\n    password: ${{file:{root}/absent}}\n    ca_file: {}", ca.display()),
        ),
        ("    extra2:", "    ssl.ca.location: /absent/ca.pem\n    ssl.key.password: ${file:/etc/passwd}"),
    ]);
    let errors = Manifest::parse(&text, "p.yaml")?.resolve(&SecretRoots::new(vec![dir.path().to_owned()]));
    let want = format!(
        "p.yaml: source.mqtt.password: secret file {root}/absent: does not exist on this node; create it, or correct the ${{file:…}} reference\n\
         p.yaml: source.mqtt.ca_file: CA file {root}/ca.pem: is not a PEM file with certificates (-----BEGIN CERTIFICATE-----)\n\
         p.yaml: sink.kafka.ssl.ca.location: /absent/ca.pem: No such file or directory (os error 2); librdkafka could not read it either\n\
         p.yaml: sink.kafka.ssl.key.password: secret file /etc/passwd: is outside the secret roots ({root}); move it there, or add its directory to the node's secret_roots"
    );
    assert_eq!(errors.map(drop).map_err(|errors| errors.to_string()), Err(want));

    let text = with(&[("[mqtt://broker]", "[mqtts://broker]"), ("    extra:", "    ca_file: /absent/ca.pem")]);
    let errors = Manifest::parse(&text, "p.yaml")?.resolve(&SecretRoots::new(Vec::new()));
    let want = "p.yaml: source.mqtt.ca_file: CA file /absent/ca.pem: cannot be read: No such file or directory (os error 2); \
                correct the path or the file's permissions";
    assert_eq!(errors.map(drop).map_err(|errors| errors.to_string()), Err(want.to_owned()));
    Ok(())
}

#[test]
fn one_document_is_one_pipeline() {
    let parse = |text: &str| Manifest::parse(text, "p.yaml").map(drop).map_err(|errors| errors.to_string());
    assert_eq!(parse(""), Err("p.yaml: holds no pipeline; give one YAML document".to_owned()));
    let twice = format!("{0}---\n{0}", with(&[]));
    assert_eq!(parse(&twice), Err("p.yaml: holds 2 pipelines where one is expected; apply them one by one".to_owned()));
    assert_eq!(parse("- a\n"), Err("p.yaml:1: expected a table of keys; found a list".to_owned()));
}
