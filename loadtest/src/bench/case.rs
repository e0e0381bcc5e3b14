//! The cases: what is sent, and how the node is set to carry it. A name stays, so that figures of years can be compared.

use serde::Serialize;

/// A case. Everything that is not named is [`BASE`].
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Case {
    #[serde(skip)]
    pub(crate) name: &'static str,
    #[serde(skip)]
    pub(crate) about: &'static str,
    pub(crate) qos: u8,
    /// MQTT's version.
    pub(crate) version: &'static str,
    /// Readings that a session may have unacknowledged.
    pub(crate) window: u16,
    pub(crate) sessions: u32,
    pub(crate) lanes: u32,
    pub(crate) payload_bytes: usize,
    /// Kafka headers of a reading.
    pub(crate) headers: u8,
    pub(crate) compression: &'static str,
    pub(crate) mapping: Mapping,
    /// On the way from the MQTT broker, and on the way to Kafka.
    pub(crate) mqtt_tls: bool,
    pub(crate) kafka_tls: bool,
    /// Readings a second over all sessions; 0: as fast as it goes.
    pub(crate) rate: u32,
}

/// How a reading's topic and key are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mapping {
    /// One topic for all; the key is the MQTT topic.
    Literal,
    /// A rule with named levels makes the key.
    Captures,
    /// The same with a regular expression.
    Regex,
}

const BASE: Case = Case {
    name: "qos1",
    about: "what most people run: QoS 1, one session with a large window, lz4, no headers",
    qos: 1,
    version: "5",
    window: 20_000,
    sessions: 1,
    lanes: 1,
    payload_bytes: 110,
    headers: 0,
    compression: "lz4",
    mapping: Mapping::Literal,
    mqtt_tls: false,
    kafka_tls: false,
    rate: 0,
};

pub(crate) const CASES: [Case; 32] = [
    BASE,
    Case { name: "qos1-headers2", about: "with two headers: MQTT topic and QoS", headers: 2, ..BASE },
    Case { name: "qos0", about: "QoS 0", qos: 0, ..BASE },
    Case { name: "qos2", about: "QoS 2", qos: 2, ..BASE },
    Case { name: "qos1-v311", about: "MQTT 3.1.1", version: "3.1.1", ..BASE },
    Case { name: "window20-sessions1", about: "Mosquitto's default window, one session", window: 20, ..BASE },
    Case { name: "window20-sessions16", about: "the same with 16 sessions", window: 20, sessions: 16, ..BASE },
    Case { name: "window20-sessions64", about: "the same with 64 sessions", window: 20, sessions: 64, ..BASE },
    Case { name: "window1000-sessions1", about: "a window of 1,000, one session", window: 1_000, ..BASE },
    Case { name: "window1000-sessions16", about: "the same with 16 sessions", window: 1_000, sessions: 16, ..BASE },
    Case { name: "window1000-sessions64", about: "the same with 64 sessions", window: 1_000, sessions: 64, ..BASE },
    Case { name: "window20000-sessions16", about: "a window of 20,000, 16 sessions", sessions: 16, ..BASE },
    Case { name: "window20000-sessions64", about: "the same with 64 sessions", sessions: 64, ..BASE },
    Case { name: "payload1k", about: "payloads of 1 KiB", payload_bytes: 1_024, ..BASE },
    Case {
        name: "payload1k-headers2",
        about: "payloads of 1 KiB, two headers",
        payload_bytes: 1_024,
        headers: 2,
        ..BASE
    },
    Case { name: "uncompressed", about: "no compression", compression: "none", ..BASE },
    Case { name: "zstd", about: "zstd instead of lz4", compression: "zstd", ..BASE },
    Case { name: "tls-mqtt", about: "TLS 1.3 from the MQTT broker", mqtt_tls: true, ..BASE },
    Case { name: "tls-kafka", about: "TLS 1.3 to Kafka", kafka_tls: true, ..BASE },
    Case { name: "tls", about: "TLS on both sides", mqtt_tls: true, kafka_tls: true, ..BASE },
    Case {
        name: "tls-sessions4",
        about: "TLS on both sides, four sessions: their windows are not the limit",
        mqtt_tls: true,
        kafka_tls: true,
        sessions: 4,
        ..BASE
    },
    Case { name: "captures", about: "a key of two named levels", mapping: Mapping::Captures, ..BASE },
    Case { name: "regex", about: "a key of two groups of a regular expression", mapping: Mapping::Regex, ..BASE },
    Case { name: "lanes1-sessions4", about: "one lane for four sessions", sessions: 4, ..BASE },
    Case { name: "lanes2-sessions4", about: "two lanes for four sessions", sessions: 4, lanes: 2, ..BASE },
    Case { name: "rate1000", about: "1,000 readings a second: how soon Kafka has them", rate: 1_000, ..BASE },
    Case {
        name: "rate50000",
        about: "50,000 readings a second over three sessions and two lanes, as k8s/base has them",
        rate: 50_000,
        sessions: 3,
        lanes: 2,
        ..BASE
    },
    Case { name: "rate100000", about: "100,000 readings a second", rate: 100_000, ..BASE },
    Case { name: "rate100000-headers2", about: "the same with two headers", rate: 100_000, headers: 2, ..BASE },
    Case { name: "rate600000", about: "600,000 readings a second: half of what a core carries", rate: 600_000, ..BASE },
    Case {
        name: "rate100000-sessions16",
        about: "100,000 readings a second over 16 sessions",
        rate: 100_000,
        sessions: 16,
        ..BASE
    },
    Case {
        name: "sessions1000",
        about: "1,000 nearly idle sessions: a reading a second each",
        sessions: 1_000,
        rate: 1_000,
        ..BASE
    },
];

/// The case of that name.
///
/// # Errors
/// There is none.
pub(crate) fn named(name: &str) -> anyhow::Result<Case> {
    let found = CASES.iter().find(|case| case.name == name).copied();
    found.ok_or_else(|| anyhow::anyhow!("there is no case {name:?}; loadtest bench --list shows them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_found() {
        for case in &CASES {
            assert_eq!(CASES.iter().filter(|other| other.name == case.name).count(), 1, "{}", case.name);
            assert!(named(case.name).is_ok_and(|found| found.about == case.about));
        }
        assert!(named("qos3").is_err());
    }
}
