//! Bad manifests, as changes of a good one, and what is said about each.

use super::*;

#[test]
fn every_bad_manifest_gets_its_stated_words() {
    for (changes, want) in CASES {
        let outcome = Manifest::parse(&with(changes), "p.yaml").map(drop).map_err(|errors| errors.to_string());
        assert_eq!(outcome, Err((*want).to_owned()), "{changes:?}");
    }
}

/// Lines of the good manifest with what replaces them, and the words.
type Case = (&'static [(&'static str, &'static str)], &'static str);

const CASES: &[Case] = &[
    (&[("name: readings\n", "")], "p.yaml:1: name: is missing: give the pipeline's name"),
    (
        &[("name: readings", "name: Readings")],
        "p.yaml:1: name: pipeline name \"Readings\" is not usable: give 1 to 63 characters of a-z, 0-9 \
         and '-', starting and ending with a letter or digit",
    ),
    (&[("name: readings", "name: [a]")], "p.yaml:1: name: expected a text; found a list"),
    (
        &[("name: readings", "name:")],
        "p.yaml:1: name: has no value; give one or remove the key (an empty text is written \"\")",
    ),
    (&[("shards: 2", "shard: 2")], "p.yaml:6: shard: unknown key; did you mean `shards`?"),
    (&[("shards: 2", "shards: 0")], "p.yaml:6: shards: expected a whole number from 1 to 10000; found `0`"),
    (&[("shards: 2", "shards: two")], "p.yaml:6: shards: expected a whole number from 1 to 10000; found `two`"),
    (
        &[("shards: 2", "shards: \"2\"")],
        "p.yaml:6: shards: expected a whole number from 1 to 10000; found the quoted text \"2\"",
    ),
    (&[("shards: 2", "shards: 10001")], "p.yaml:6: shards: expected a whole number from 1 to 10000; found `10001`"),
    (
        &[("extra3:", "colour: blue")],
        "p.yaml:13: colour: unknown key; the keys here are name, shards, delivery, metadata_headers, \
         source, mapping, default_topic, dead_letter_topic, sink",
    ),
    (
        &[("extra3:", "delivery: exactly-once")],
        "p.yaml:13: delivery: exactly-once is not built yet; use at-least-once, which loses nothing and \
         may repeat readings around a failover",
    ),
    (
        &[("extra3:", "delivery: at_least_once")],
        "p.yaml:13: delivery: expected one of at-least-once, at-most-once; found \"at_least_once\"; did \
         you mean `at-least-once`?",
    ),
    (
        &[("extra3:", "delivery: at-most-once\n"), ("    extra:", "    qos: 1")],
        "p.yaml:6: source.mqtt.qos: must be 0 with `delivery: at-most-once`; use 0, or say `delivery: \
         at-least-once`",
    ),
    (
        &[("    extra:", "    qos: 0")],
        "p.yaml:6: source.mqtt.qos: 0 cannot keep `delivery: at-least-once`; use 1 or 2, or say \
         `delivery: at-most-once`",
    ),
    (&[("    extra:", "    qos: 3")], "p.yaml:6: source.mqtt.qos: expected a whole number from 0 to 2; found `3`"),
    (&[("    extra:", "    qos: one")], "p.yaml:6: source.mqtt.qos: expected a whole number from 0 to 2; found `one`"),
    (&[("    extra:", "    topcis: [a]")], "p.yaml:6: source.mqtt.topcis: unknown key; did you mean `topics`?"),
    (
        &[("    extra:", "    shared: false")],
        "p.yaml:7: shards: must be 1 with `shared: false`: each of 2 plain subscriptions would receive, \
         and deliver, every reading",
    ),
    (&[("    extra:", "    shared: no")], "p.yaml:6: source.mqtt.shared: expected true or false; found `no`"),
    (
        &[("    extra:", "    shared: false\n    share_group: g"), ("shards: 2", "shards: 1")],
        "p.yaml:7: source.mqtt.share_group: has no meaning with `shared: false`; keep one of them",
    ),
    (
        &[("    extra:", "    share_group: a/b")],
        "p.yaml:6: source.mqtt.share_group: \"a/b\" is not a share group: give 1 to 128 bytes without \
         `/`, `+` and `#`",
    ),
    (
        &[("    extra:", "    version: 4")],
        "p.yaml:6: source.mqtt.version: expected one of 5, 3.1.1; found \"4\"; did you mean `5`?",
    ),
    (
        &[("    extra:", "    keep_alive: 30")],
        "p.yaml:6: source.mqtt.keep_alive: expected a duration from 1s to 65535s with its unit (ms, s, m \
         or h); found `30`",
    ),
    (
        &[("    extra:", "    keep_alive: 1500ms")],
        "p.yaml:6: source.mqtt.keep_alive: must be whole seconds: MQTT cannot say less",
    ),
    (
        &[("    extra:", "    keep_alive: 20h")],
        "p.yaml:6: source.mqtt.keep_alive: expected a duration from 1s to 65535s with its unit (ms, s, m \
         or h); found `20h`",
    ),
    (
        &[("    extra:", "    connect_timeout: 1 hour")],
        "p.yaml:6: source.mqtt.connect_timeout: expected a duration from 100ms to 5m with its unit (ms, \
         s, m or h); found `1 hour`",
    ),
    (
        &[("    extra:", "    receive_maximum: 0")],
        "p.yaml:6: source.mqtt.receive_maximum: expected a whole number from 1 to 65535; found `0`",
    ),
    (
        &[("    extra:", "    packet_bytes_max: 16MB")],
        "p.yaml:6: source.mqtt.packet_bytes_max: expected a size from 1KiB to 256MiB, in bytes or with \
         KiB, MiB or GiB; found `16MB`",
    ),
    (
        &[("    extra:", "    ca_file: /etc/ca.pem")],
        "p.yaml:6: source.mqtt.ca_file: has no effect: no server is mqtts://; remove it, or use mqtts://",
    ),
    (
        &[("    extra:", "    password: p\n    version: 3.1.1")],
        "p.yaml:6: source.mqtt.password: needs `username` in MQTT 3.1.1",
    ),
    (
        &[("    extra:", "    password: ${env:PASSWORD}")],
        "p.yaml:6: source.mqtt.password: `${` begins a reference, which has the form \
         ${file:/absolute/path} and is the whole value",
    ),
    (
        &[("    extra:", "    password: ${file:secret}")],
        "p.yaml:6: source.mqtt.password: the path of a ${file:…} reference must be absolute, without \
         `..`; found \"secret\"",
    ),
    (&[("    extra:", "    qos: 1\n    qos: 2")], "p.yaml:7: the key `qos` appears twice; keep one"),
    (
        &[("[mqtt://broker]", "mqtt://broker")],
        "p.yaml:4: source.mqtt.servers: expected a list of broker URLs; found `mqtt://broker`",
    ),
    (&[("[mqtt://broker]", "[]")], "p.yaml:4: source.mqtt.servers: has 0 broker URLs; give 1 to 16"),
    (
        &[("[mqtt://broker]", "[broker:1883]")],
        "p.yaml:4: source.mqtt.servers[0]: \"broker:1883\" is not a broker's URL; give mqtt://host:1883 \
         or mqtts://host:8883",
    ),
    (
        &[("[mqtt://broker]", "[ws://broker/mqtt]")],
        "p.yaml:4: source.mqtt.servers[0]: \"ws://broker/mqtt\" has the scheme ws, which is not \
         supported; give mqtt:// (TCP) or mqtts:// (TLS)",
    ),
    (
        &[("[mqtt://broker]", "[mqtt://u:p@broker]")],
        "p.yaml:4: source.mqtt.servers[0]: a broker's URL must not hold user name or password, which \
         would be shown; use `username` and `password`",
    ),
    (
        &[("[mqtt://broker]", "[mqtt://a, mqtt://a:1883]")],
        "p.yaml:4: source.mqtt.servers[1]: is listed twice; keep one",
    ),
    (
        &[("[factory/+/+/reading]", "[factory/a+/reading]")],
        "p.yaml:5: source.mqtt.topics[0]: `+` must stand alone in its level, as in `factory/+/reading`",
    ),
    (
        &[("[factory/+/+/reading]", "[factory/#/reading]")],
        "p.yaml:5: source.mqtt.topics[0]: `#` must be the last level and stand alone in it, as in \
         `factory/#`",
    ),
    (
        &[("[factory/+/+/reading]", "[$share/g/factory/+]")],
        "p.yaml:5: source.mqtt.topics[0]: write the filter without `$share/<group>/`; name the group \
         with `share_group` (default: the pipeline's name)",
    ),
    (
        &[("[factory/+/+/reading]", "[factory/+/+/reading, other/#]")],
        "p.yaml:7: mapping: readings of the filter \"other/#\" may match no rule; add a rule that covers \
         it, or give `default_topic`",
    ),
    (&[("[factory/+/+/reading]", "[\"\"]")], "p.yaml:5: source.mqtt.topics[0]: a topic filter cannot be empty"),
    (
        &[("match: factory/#", "regex: factory/.*")],
        "p.yaml:7: mapping: readings of the filter \"factory/+/+/reading\" may match no rule (a regex \
         proves nothing); add a rule that covers it, or give `default_topic`",
    ),
    (
        &[("match: factory/#", "regex: factory/(")],
        "p.yaml:8: mapping[0].regex: not a regular expression: unclosed group",
    ),
    (
        &[("match: factory/#", "match: factory/dev-{id}")],
        "p.yaml:8: mapping[0].match: `+`, `#` and {name} must each fill a whole level, unlike in \
         \"dev-{id}\"; use `regex:` for parts of a level",
    ),
    (
        &[("match: factory/#", "matches: factory/#")],
        "p.yaml:8: mapping[0]: the rule has neither `match` nor `regex`; give one of them\np.yaml:8: \
         mapping[0].matches: unknown key; did you mean `match`?",
    ),
    (
        &[("match: factory/#", "match: factory/#\n    regex: a")],
        "p.yaml:9: mapping[0].regex: a rule has either `match` or `regex`; keep one",
    ),
    (&[("    topic: t\n", "    key: k\n")], "p.yaml:8: mapping[0].topic: is missing: give the Kafka topic"),
    (
        &[("    topic: t\n", "    topic: a/b\n")],
        "p.yaml:9: mapping[0].topic: \"a/b\" contains '/'; Kafka accepts a-z, A-Z, 0-9, `.`, `_` and `-`",
    ),
    (
        &[("    topic: t\n", "    topic: \"{zone}\"\n")],
        "p.yaml:9: mapping[0].topic: {zone} is not captured by the rule's pattern; it has {1}, {topic}",
    ),
    (
        &[("    topic: t\n", "    topic: ..\n")],
        "p.yaml:9: mapping[0].topic: \"..\" is not a name that Kafka accepts for a topic",
    ),
    (
        &[("    topic: t\n", "    topic: t\n    headers: {mqtt.topic: x}\n")],
        "p.yaml:10: mapping[0].headers.mqtt.topic: header names that begin with `mqtt.` are Sluice's \
         own; take another",
    ),
    (
        &[("    topic: t\n", "    topic: t\n    headers: [a]\n")],
        "p.yaml:10: mapping[0].headers: expected a table of header names with their templates; found a \
         list",
    ),
    (
        &[("    topic: t\n", "    topic: t\n    key: \"{\"\n")],
        "p.yaml:10: mapping[0].key: `{` is never closed; write `{{` for a brace",
    ),
    (
        &[("mapping:\n  - match: factory/#\n    topic: t\n", "")],
        "p.yaml:1: there is neither `mapping` nor `default_topic`, so no reading would have a Kafka \
         topic; give one of them",
    ),
    (
        &[("extra3:", "default_topic: \"{zone}\"")],
        "p.yaml:13: default_topic: {zone} is not captured by the rule's pattern; it has {topic}",
    ),
    (
        &[("extra3:", "dead_letter_topic: dead letters")],
        "p.yaml:13: dead_letter_topic: \"dead letters\" contains ' '; Kafka accepts a-z, A-Z, 0-9, `.`, \
         `_` and `-`",
    ),
    (
        &[("extra3:", "metadata_headers: [topic, contenttype]")],
        "p.yaml:13: metadata_headers[1]: expected one of topic, qos, retain, duplicate, received-at, \
         content-type, correlation-data, user-properties; found \"contenttype\"; did you mean \
         `content-type`?",
    ),
    (
        &[("extra3:", "metadata_headers: topic")],
        "p.yaml:13: metadata_headers: expected a list of header words, as in [topic, received-at]; found \
         `topic`",
    ),
    (
        &[("extra3:", "metadata_headers: [content-type]"), ("    extra:", "    version: 3.1.1")],
        "p.yaml:14: metadata_headers: MQTT 3.1.1 has no content-type; remove it, or use version 5",
    ),
    (
        &[("    bootstrap.servers: kafka:9092\n", "    linger.ms: 5\n")],
        "p.yaml:11: sink.kafka.bootstrap.servers: is missing: give Kafka's addresses, as in \
         `kafka-0.kafka:9092,kafka-1.kafka:9092`",
    ),
    (
        &[("kafka:9092", "http://kafka:9092")],
        "p.yaml:12: sink.kafka.bootstrap.servers: \"http://kafka:9092\" is not an address: give \
         host:port, without a scheme",
    ),
    (
        &[("kafka:9092", "kafka:0")],
        "p.yaml:12: sink.kafka.bootstrap.servers: \"kafka:0\" is not an address: give host:port, as in \
         `kafka-0.kafka:9092`",
    ),
    (
        &[("kafka:9092", "a:1,,b:2")],
        "p.yaml:12: sink.kafka.bootstrap.servers: \"\" is not an address: give host:port, as in \
         `kafka-0.kafka:9092`",
    ),
    (
        &[("    extra2:", "    bootstrap.server: k")],
        "p.yaml:13: sink.kafka.bootstrap.server: unknown Kafka property; did you mean \
         `bootstrap.servers`?",
    ),
    (
        &[("    extra2:", "    linger.mss: 5")],
        "p.yaml:13: sink.kafka.linger.mss: unknown Kafka property; did you mean `linger.ms`?",
    ),
    (&[("    extra2:", "    no.such.property: 5")], "p.yaml:13: sink.kafka.no.such.property: unknown Kafka property"),
    (
        &[("    extra2:", "    linger.ms: fast")],
        "p.yaml:13: sink.kafka.linger.ms: librdkafka refuses \"fast\": Invalid value for configuration \
         property \"queue.buffering.max.ms\"",
    ),
    (
        &[("    extra2:", "    linger.ms: 9000001")],
        "p.yaml:13: sink.kafka.linger.ms: librdkafka refuses \"9000001\": Configuration property \
         \"queue.buffering.max.ms\" value 9e+06 is outside allowed range 0..900000",
    ),
    (
        &[("    extra2:", "    compression.type: rar")],
        "p.yaml:13: sink.kafka.compression.type: librdkafka refuses \"rar\": Invalid value \"rar\" for \
         configuration property \"compression.codec\"",
    ),
    (
        &[("    extra2:", "    acks: 1")],
        "p.yaml:13: sink.kafka.acks: cannot be \"1\": a reading counts as delivered when all in-sync \
         replicas have it; remove it, or give all, -1",
    ),
    (
        &[("    extra2:", "    request.required.acks: 1")],
        "p.yaml:13: sink.kafka.request.required.acks: cannot be \"1\": a reading counts as delivered \
         when all in-sync replicas have it; remove it, or give all, -1",
    ),
    (
        &[("    extra2:", "    enable.idempotence: false")],
        "p.yaml:13: sink.kafka.enable.idempotence: cannot be \"false\": without it a retry may repeat or \
         reorder readings; remove it, or give true",
    ),
    (
        &[("    extra2:", "    message.timeout.ms: 30000")],
        "p.yaml:13: sink.kafka.message.timeout.ms: cannot be \"30000\": a reading is never given up by \
         time or by count, or it would be lost while Kafka is away; remove it, or give 0",
    ),
    (
        &[("    extra2:", "    delivery.timeout.ms: 30000")],
        "p.yaml:13: sink.kafka.delivery.timeout.ms: cannot be \"30000\": a reading is never given up by \
         time or by count, or it would be lost while Kafka is away; remove it, or give 0",
    ),
    (
        &[("    extra2:", "    retries: 3")],
        "p.yaml:13: sink.kafka.retries: cannot be \"3\": a reading is never given up by time or by \
         count, or it would be lost while Kafka is away; remove it, or give 2147483647",
    ),
    (
        &[("    extra2:", "    max.in.flight: 6")],
        "p.yaml:13: sink.kafka.max.in.flight: cannot be \"6\": a larger window or another order would \
         break the idempotent producer; remove it, or give 1, 2, 3, 4, 5",
    ),
    (
        &[("    extra2:", "    transactional.id: x")],
        "p.yaml:13: sink.kafka.transactional.id: cannot be set: transactions belong to `delivery: \
         exactly-once`, which is not built yet; remove it",
    ),
    (
        &[("    extra2:", "    enable.gapless.guarantee: true")],
        "p.yaml:13: sink.kafka.enable.gapless.guarantee: cannot be \"true\": one reading that Kafka \
         refuses would end the producer; Sluice isolates it as a dead letter; remove it, or give false",
    ),
    (
        &[("    extra2:", "    delivery.report.only.error: true")],
        "p.yaml:13: sink.kafka.delivery.report.only.error: cannot be \"true\": without delivery reports \
         no reading would ever be acknowledged to MQTT; remove it, or give false",
    ),
    (
        &[("    extra2:", "    queue.buffering.max.messages: 10")],
        "p.yaml:13: sink.kafka.queue.buffering.max.messages: cannot be \"10\": what is in flight is \
         bounded per lane and per shard by `in_flight` in the node's configuration, and this queue must \
         never be the tighter bound; remove it, or give 0",
    ),
    (
        &[("    extra2:", "    partitioner: random")],
        "p.yaml:13: sink.kafka.partitioner: cannot be \"random\": Sluice computes the partition itself, \
         as the Java client does; remove it, or give murmur2_random",
    ),
    (
        &[("    extra2:", "    plugin.library.paths: /tmp/x.so")],
        "p.yaml:13: sink.kafka.plugin.library.paths: cannot be set: it would load foreign code into the \
         node; remove it",
    ),
    (
        &[("    extra2:", "    test.mock.num.brokers: 3")],
        "p.yaml:13: sink.kafka.test.mock.num.brokers: cannot be set: readings would go to a pretended \
         Kafka inside the node, which keeps nothing; `sluice demo` brings its own; remove it",
    ),
    (
        &[("    extra2:", "    dr_msg_cb: x")],
        "p.yaml:13: sink.kafka.dr_msg_cb: cannot be set in a manifest: librdkafka takes it through its \
         API only; remove it",
    ),
    (
        &[("    extra2:", "    group.id: g")],
        "p.yaml:13: sink.kafka.group.id: is a property of Kafka consumers, and Sluice only produces; \
         remove it",
    ),
    (
        &[("    extra2:", "    metadata.broker.list: k")],
        "p.yaml:13: sink.kafka.metadata.broker.list: is given twice: `bootstrap.servers` has two names; \
         keep one",
    ),
    (
        &[("    extra2:", "    sasl.username: u")],
        "p.yaml:11: sink.kafka.security.protocol: must be sasl_ssl or sasl_plaintext for `sasl.username` \
         to have any effect; set it, or remove the sasl properties",
    ),
    (
        &[("    extra2:", "    security.protocol: sasl_ssl")],
        "p.yaml:11: sink.kafka.sasl.mechanisms: is missing: security.protocol asks for SASL; give PLAIN, \
         SCRAM-SHA-256 or SCRAM-SHA-512",
    ),
    (
        &[("    extra2:", "    security.protocol: sasl_ssl\n    sasl.mechanism: PLAIN\n    sasl.username: u")],
        "p.yaml:14: sink.kafka.sasl.mechanism: PLAIN needs both sasl.username and sasl.password",
    ),
    (
        &[("    extra2:", "    security.protocol: sasl_ssl\n    sasl.mechanism: GSSAPI")],
        "p.yaml:14: sink.kafka.sasl.mechanism: cannot be \"GSSAPI\": it is not compiled in; remove it, \
         or give PLAIN, SCRAM-SHA-256, SCRAM-SHA-512",
    ),
    (
        &[("    extra2:", "    sasl.kerberos.kinit.cmd: rm")],
        "p.yaml:13: sink.kafka.sasl.kerberos.kinit.cmd: cannot be set: Kerberos is not compiled in; use \
         PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; remove it",
    ),
    (
        &[("    extra2:", "    sasl.password: ${file:/a}b")],
        "p.yaml:13: sink.kafka.sasl.password: `${` begins a reference, which has the form \
         ${file:/absolute/path} and is the whole value",
    ),
    (
        &[("    extra2:", "    linger.ms:")],
        "p.yaml:13: sink.kafka.linger.ms: has no value; give one or remove the key (an empty text is \
         written \"\")",
    ),
    (
        &[("    extra2:", "    ssl.keystore.location: /a")],
        "p.yaml:11: sink.kafka.ssl.keystore.password: is missing: ssl.keystore.location needs it",
    ),
    (
        &[("    extra2:", "    reconnect.backoff.ms: 20000")],
        "p.yaml:11: sink.kafka.reconnect.backoff.max.ms: 10000 is less than reconnect.backoff.ms, 20000",
    ),
    (
        &[("  kafka:\n    bootstrap.servers: kafka:9092\n    extra2:\n", "  kafka: k\n")],
        "p.yaml:11: sink.kafka: expected a table of librdkafka properties; found `k`",
    ),
    (
        &[("sink:\n  kafka:\n    bootstrap.servers: kafka:9092\n    extra2:\n", "")],
        "p.yaml:1: sink: is missing: give a table with the key `kafka`",
    ),
    (&[("source:\n", "source:\n  http: {}\n")], "p.yaml:3: source.http: unknown key; the keys here are mqtt"),
    (&[("name: readings", "name: x: y")], "p.yaml:1: not YAML: mapping values are not allowed in this context"),
    (
        &[("name: readings\n", "name: readings\n\tx: 1\n")],
        "p.yaml:1: not YAML: while scanning a plain scalar, found a tab",
    ),
    (
        &[("    extra2:", "    sasl.password: hunter2")],
        "p.yaml:11: sink.kafka.security.protocol: must be sasl_ssl or sasl_plaintext for `sasl.password` \
         to have any effect; set it, or remove the sasl properties",
    ),
];
