//! Pipeline manifests, written as a user writes them.

use std::fmt::Write as _;

/// A pipeline from one MQTT broker to one Kafka; the fields are the manifest's.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub name: String,
    pub mqtt: String,
    pub kafka: String,
    pub filters: Vec<String>,
    pub qos: u8,
    pub shards: u32,
    /// Readings in flight that each session asks the MQTT broker for.
    pub receive_maximum: u16,
    /// More lines of `source.mqtt`, such as `version: "3.1.1"`.
    pub source: Vec<String>,
    /// Rules as YAML flow mappings, such as `{match: "a/{b}", topic: t, key: "{b}"}`.
    pub mapping: Vec<String>,
    pub default_topic: Option<String>,
    pub dead_letter_topic: Option<String>,
    /// More lines of the document, such as `metadata_headers: [topic]`.
    pub more: Vec<String>,
    /// More librdkafka properties.
    pub kafka_properties: Vec<(String, String)>,
}

impl Pipeline {
    /// Everything below `factory/` with QoS 1 and one shard into one topic.
    pub fn new(name: &str, mqtt: &str, kafka: &str, topic: &str) -> Self {
        Self {
            name: name.to_owned(),
            mqtt: mqtt.to_owned(),
            kafka: kafka.to_owned(),
            filters: vec!["factory/#".to_owned()],
            qos: 1,
            shards: 1,
            receive_maximum: 1_000,
            source: Vec::new(),
            mapping: Vec::new(),
            default_topic: Some(topic.to_owned()),
            dead_letter_topic: None,
            more: Vec::new(),
            kafka_properties: Vec::new(),
        }
    }

    /// The document.
    pub fn yaml(&self) -> String {
        let mut text = String::new();
        let mut line = |indent: usize, content: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:indent$}{content}", "");
        };
        line(0, format!("name: {}", self.name));
        line(0, "source:".to_owned());
        line(2, "mqtt:".to_owned());
        line(4, format!("servers: [\"{}\"]", self.mqtt));
        let filters: Vec<String> = self.filters.iter().map(|filter| format!("\"{filter}\"")).collect();
        line(4, format!("topics: [{}]", filters.join(", ")));
        line(4, format!("qos: {}", self.qos));
        line(4, format!("receive_maximum: {}", self.receive_maximum));
        self.source.iter().for_each(|content| line(4, content.clone()));
        line(0, format!("shards: {}", self.shards));
        let delivery = if self.qos == 0 { "at-most-once" } else { "at-least-once" };
        line(0, format!("delivery: {delivery}"));
        if !self.mapping.is_empty() {
            line(0, "mapping:".to_owned());
            self.mapping.iter().for_each(|rule| line(2, format!("- {rule}")));
        }
        if let Some(topic) = &self.default_topic {
            line(0, format!("default_topic: {topic}"));
        }
        if let Some(topic) = &self.dead_letter_topic {
            line(0, format!("dead_letter_topic: {topic}"));
        }
        self.more.iter().for_each(|content| line(0, content.clone()));
        line(0, "sink:".to_owned());
        line(2, "kafka:".to_owned());
        line(4, format!("bootstrap.servers: {}", self.kafka));
        self.kafka_properties.iter().for_each(|(key, value)| line(4, format!("{key}: {value}")));
        text
    }
}
