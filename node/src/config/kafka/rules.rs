//! What Sluice itself sets on a producer, and what it lets nobody set otherwise.

/// What Sluice has to say about one property.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// What the property is where the user says nothing; `None`: librdkafka's own default.
    pub(super) default: Option<&'static str>,
    pub(super) accepts: Accepts,
}

/// Which values the user may give.
#[derive(Debug)]
pub(super) enum Accepts {
    /// Whatever librdkafka accepts.
    Anything,
    /// One of these.
    Only(&'static [&'static str], &'static str),
    /// None: the property is not the user's.
    Nothing(&'static str),
}

const NO_TIME_LIMIT: &str = "a reading is never given up by time or by count, or it would be lost while Kafka is away";
const BOUNDS: &str = "what is in flight is bounded per lane and per shard by `in_flight` in the node's configuration, and this queue must never be the tighter bound";
const ORDER: &str = "a larger window or another order would break the idempotent producer";
const EVENTS: &str = "Sluice serves librdkafka's events itself";
const LOADS_CODE: &str = "it would load foreign code into the node";
const EXACTLY_ONCE: &str = "transactions belong to `delivery: exactly-once`, which is not built yet";
const MOCK: &str =
    "readings would go to a pretended Kafka inside the node, which keeps nothing; `sluice demo` brings its own";

/// The rules, by property.
pub(super) const RULES: &[Rule] = &[
    Rule { name: "client.id", default: Some("sluice"), accepts: Accepts::Anything },
    only("enable.idempotence", Some("true"), &["true"], "without it a retry may repeat or reorder readings"),
    only("acks", Some("all"), &["all", "-1"], "a reading counts as delivered when all in-sync replicas have it"),
    only("message.timeout.ms", Some("0"), &["0"], NO_TIME_LIMIT),
    only("retries", Some("2147483647"), &["2147483647"], NO_TIME_LIMIT),
    only("max.in.flight.requests.per.connection", Some("5"), &["1", "2", "3", "4", "5"], ORDER),
    only("queuing.strategy", None, &["fifo"], ORDER),
    only("queue.buffering.backpressure.threshold", None, &["1"], ORDER),
    only(
        "partitioner",
        Some("murmur2_random"),
        &["murmur2_random"],
        "Sluice computes the partition itself, as the Java client does",
    ),
    only("queue.buffering.max.messages", Some("0"), &["0"], BOUNDS),
    only("queue.buffering.max.kbytes", Some("2147483647"), &["2147483647"], BOUNDS),
    // At low rates this is most of the latency. At high ones batches grow by themselves, as no more than five requests are under way.
    Rule { name: "linger.ms", default: Some("1"), accepts: Accepts::Anything },
    // An unknown topic is told after this, and the shard that needs it says so: half a minute of silence would look like a slow Kafka.
    Rule { name: "topic.metadata.propagation.max.ms", default: Some("5000"), accepts: Accepts::Anything },
    // Topics are the operator's: a mapping would have every device that publishes make one, with the broker's defaults.
    Rule { name: "allow.auto.create.topics", default: Some("false"), accepts: Accepts::Anything },
    Rule { name: "compression.type", default: Some("lz4"), accepts: Accepts::Anything },
    only(
        "enable.gapless.guarantee",
        None,
        &["false"],
        "one reading that Kafka refuses would end the producer; Sluice isolates it as a dead letter",
    ),
    only(
        "delivery.report.only.error",
        None,
        &["false"],
        "without delivery reports no reading would ever be acknowledged to MQTT",
    ),
    only("sasl.mechanisms", None, &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], "it is not compiled in"),
    never("transactional.id", EXACTLY_ONCE),
    never("transaction.timeout.ms", EXACTLY_ONCE),
    never("plugin.library.paths", LOADS_CODE),
    never("ssl.engine.location", LOADS_CODE),
    never("ssl.engine.id", LOADS_CODE),
    never("enabled_events", EVENTS),
    never("log.queue", EVENTS),
    never("internal.termination.signal", EVENTS),
    never("builtin.features", "it only tells what librdkafka was built with"),
];

/// Its tokens come by HTTP, for which librdkafka needs curl.
const NO_OAUTHBEARER: &str = "OAUTHBEARER is not compiled in; use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512";

/// Properties that are refused by how their name begins.
pub(super) const REFUSED_PREFIXES: &[(&str, &str)] = &[
    ("test.mock.", MOCK),
    ("ut_", MOCK),
    ("sasl.oauthbearer.", NO_OAUTHBEARER),
    ("enable.sasl.oauthbearer.", NO_OAUTHBEARER),
    ("sasl.kerberos.", "Kerberos is not compiled in; use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
];

/// Values that are never shown, whatever they are.
const SECRETS: &[&str] = &[
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
];

/// Files that librdkafka reads when a producer starts.
pub(super) const FILES: &[&str] = &[
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
    "https.ca.location",
];

/// Sluice's word about a property.
pub(super) fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// Whether the property's value is a secret.
pub(super) fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
}

const fn only(
    name: &'static str,
    default: Option<&'static str>,
    values: &'static [&'static str],
    why: &'static str,
) -> Rule {
    Rule { name, default, accepts: Accepts::Only(values, why) }
}

const fn never(name: &'static str, why: &'static str) -> Rule {
    Rule { name, default: None, accepts: Accepts::Nothing(why) }
}
