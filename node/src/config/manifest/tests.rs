//! Good manifests, and for every bad one the exact words.

use super::*;

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
fn probe() {
    for c in CASES {
        let out = match Manifest::parse(&with(c.0), "p.yaml") { Ok(_) => "OK!!".to_owned(), Err(e) => e.to_string() };
        println!("@@ {:?}\n{out}", c.0);
    }
}

const CASES: &[(&[(&str, &str)],)] = &[
    (&[("name: readings\n", "")],),
    (&[("name: readings", "name: Readings")],),
    (&[("name: readings", "name: [a]")],),
    (&[("name: readings", "name:")],),
    (&[("shards: 2", "shard: 2")],),
    (&[("shards: 2", "shards: 0")],),
    (&[("shards: 2", "shards: two")],),
    (&[("shards: 2", "shards: \"2\"")],),
    (&[("shards: 2", "shards: 10001")],),
    (&[("extra3:", "colour: blue")],),
    (&[("extra3:", "delivery: exactly-once")],),
    (&[("extra3:", "delivery: at_least_once")],),
    (&[("extra3:", "delivery: at-most-once\n"), ("    extra:", "    qos: 1")],),
    (&[("    extra:", "    qos: 0")],),
    (&[("    extra:", "    qos: 3")],),
    (&[("    extra:", "    qos: one")],),
    (&[("    extra:", "    topcis: [a]")],),
    (&[("    extra:", "    shared: false")],),
    (&[("    extra:", "    shared: no")],),
    (&[("    extra:", "    shared: false\n    share_group: g"), ("shards: 2", "shards: 1")],),
    (&[("    extra:", "    share_group: a/b")],),
    (&[("    extra:", "    version: 4")],),
    (&[("    extra:", "    keep_alive: 30")],),
    (&[("    extra:", "    keep_alive: 1500ms")],),
    (&[("    extra:", "    keep_alive: 20h")],),
    (&[("    extra:", "    connect_timeout: 1 hour")],),
    (&[("    extra:", "    receive_maximum: 0")],),
    (&[("    extra:", "    packet_bytes_max: 16MB")],),
    (&[("    extra:", "    ca_file: /etc/ca.pem")],),
    (&[("    extra:", "    password: p\n    version: 3.1.1")],),
    (&[("    extra:", "    password: ${env:PASSWORD}")],),
    (&[("    extra:", "    password: ${file:secret}")],),
    (&[("    extra:", "    qos: 1\n    qos: 2")],),
    (&[("[mqtt://broker]", "mqtt://broker")],),
    (&[("[mqtt://broker]", "[]")],),
    (&[("[mqtt://broker]", "[broker:1883]")],),
    (&[("[mqtt://broker]", "[ws://broker/mqtt]")],),
    (&[("[mqtt://broker]", "[mqtt://u:p@broker]")],),
    (&[("[mqtt://broker]", "[mqtt://a, mqtt://a:1883]")],),
    (&[("[factory/+/+/reading]", "[factory/a+/reading]")],),
    (&[("[factory/+/+/reading]", "[factory/#/reading]")],),
    (&[("[factory/+/+/reading]", "[$share/g/factory/+]")],),
    (&[("[factory/+/+/reading]", "[factory/+/+/reading, other/#]")],),
    (&[("[factory/+/+/reading]", "[\"\"]")],),
    (&[("match: factory/#", "regex: factory/.*")],),
    (&[("match: factory/#", "regex: factory/(")],),
    (&[("match: factory/#", "match: factory/dev-{id}")],),
    (&[("match: factory/#", "matches: factory/#")],),
    (&[("match: factory/#", "match: factory/#\n    regex: a")],),
    (&[("    topic: t\n", "    key: k\n")],),
    (&[("    topic: t\n", "    topic: a/b\n")],),
    (&[("    topic: t\n", "    topic: \"{zone}\"\n")],),
    (&[("    topic: t\n", "    topic: ..\n")],),
    (&[("    topic: t\n", "    topic: t\n    headers: {mqtt.topic: x}\n")],),
    (&[("    topic: t\n", "    topic: t\n    headers: [a]\n")],),
    (&[("    topic: t\n", "    topic: t\n    key: \"{\"\n")],),
    (&[("mapping:\n  - match: factory/#\n    topic: t\n", "")],),
    (&[("extra3:", "default_topic: \"{zone}\"")],),
    (&[("extra3:", "dead_letter_topic: dead letters")],),
    (&[("extra3:", "metadata_headers: [topic, contenttype]")],),
    (&[("extra3:", "metadata_headers: topic")],),
    (&[("extra3:", "metadata_headers: [content-type]"), ("    extra:", "    version: 3.1.1")],),
    (&[("    bootstrap.servers: kafka:9092\n", "    linger.ms: 5\n")],),
    (&[("kafka:9092", "http://kafka:9092")],),
    (&[("kafka:9092", "kafka:0")],),
    (&[("kafka:9092", "a:1,,b:2")],),
    (&[("    extra2:", "    bootstrap.server: k")],),
    (&[("    extra2:", "    linger.mss: 5")],),
    (&[("    extra2:", "    no.such.property: 5")],),
    (&[("    extra2:", "    linger.ms: fast")],),
    (&[("    extra2:", "    linger.ms: 9000001")],),
    (&[("    extra2:", "    compression.type: rar")],),
    (&[("    extra2:", "    acks: 1")],),
    (&[("    extra2:", "    request.required.acks: 1")],),
    (&[("    extra2:", "    enable.idempotence: false")],),
    (&[("    extra2:", "    message.timeout.ms: 30000")],),
    (&[("    extra2:", "    delivery.timeout.ms: 30000")],),
    (&[("    extra2:", "    retries: 3")],),
    (&[("    extra2:", "    max.in.flight: 6")],),
    (&[("    extra2:", "    transactional.id: x")],),
    (&[("    extra2:", "    enable.gapless.guarantee: true")],),
    (&[("    extra2:", "    delivery.report.only.error: true")],),
    (&[("    extra2:", "    queue.buffering.max.messages: 10")],),
    (&[("    extra2:", "    partitioner: random")],),
    (&[("    extra2:", "    plugin.library.paths: /tmp/x.so")],),
    (&[("    extra2:", "    test.mock.num.brokers: 3")],),
    (&[("    extra2:", "    dr_msg_cb: x")],),
    (&[("    extra2:", "    group.id: g")],),
    (&[("    extra2:", "    metadata.broker.list: k")],),
    (&[("    extra2:", "    sasl.username: u")],),
    (&[("    extra2:", "    security.protocol: sasl_ssl")],),
    (&[("    extra2:", "    security.protocol: sasl_ssl\n    sasl.mechanism: PLAIN\n    sasl.username: u")],),
    (&[("    extra2:", "    security.protocol: sasl_ssl\n    sasl.mechanism: GSSAPI")],),
    (&[("    extra2:", "    sasl.kerberos.kinit.cmd: rm")],),
    (&[("    extra2:", "    sasl.password: ${file:/a}b")],),
    (&[("    extra2:", "    linger.ms:")],),
    (&[("    extra2:", "    ssl.keystore.location: /a")],),
    (&[("    extra2:", "    reconnect.backoff.ms: 20000")],),
    (&[("  kafka:\n    bootstrap.servers: kafka:9092\n    extra2:\n", "  kafka: k\n")],),
    (&[("sink:\n  kafka:\n    bootstrap.servers: kafka:9092\n    extra2:\n", "")],),
    (&[("source:\n", "source:\n  http: {}\n")],),
    (&[("name: readings", "name: x: y")],),
    (&[("name: readings\n", "name: readings\n\tx: 1\n")],),
];
