//! The effective manifest, defaults included, for people: YAML that parses to the same pipeline, but for hidden secrets.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Manifest, MqttSource, ShareGroup};
use crate::pipeline::source::session::{Qos, Version};
use crate::{
    config::{kafka::KafkaProperties, secret::Value, units},
    pipeline::mapping::{Filter, KafkaTopic, Rule, TopicTemplate},
};

#[derive(Serialize)]
struct Document<'m> {
    name: &'m str,
    source: Source<'m>,
    shards: u32,
    delivery: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mapping: Vec<RuleView<'m>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_topic: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter_topic: Option<&'m str>,
    metadata_headers: Vec<&'static str>,
    sink: Sink<'m>,
}

#[derive(Serialize)]
struct Source<'m> {
    mqtt: Mqtt<'m>,
}

#[derive(Serialize)]
struct Mqtt<'m> {
    servers: Vec<String>,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<String>,
    topics: Vec<&'m str>,
    qos: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_group: Option<&'m str>,
    shared: bool,
    keep_alive: String,
    connect_timeout: String,
    receive_maximum: u16,
    packet_bytes_max: String,
    delivers_after_unsubscribe: bool,
}

#[derive(Serialize)]
struct RuleView<'m> {
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    levels: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<&'m str>,
    topic: &'m str,
    key: &'m str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'m str, &'m str>,
}

#[derive(Serialize)]
struct Sink<'m> {
    kafka: BTreeMap<&'m str, String>,
}

impl Manifest {
    /// The effective manifest as YAML. References stay references; secrets written in the manifest are hidden.
    ///
    /// # Errors
    /// The YAML writer's, of which none is known.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::SerializeError> {
        let property = |(name, value): (&'_ str, &Value)| value.show(KafkaProperties::is_secret(name));
        serde_saphyr::to_string(&Document {
            name: self.name.as_str(),
            source: Source { mqtt: mqtt(&self.source) },
            shards: self.shards.get(),
            delivery: self.delivery.as_str(),
            mapping: self.mapping.rules().iter().map(rule).collect(),
            default_topic: self.mapping.default_topic().map(TopicTemplate::as_str),
            dead_letter_topic: self.dead_letter_topic.as_ref().map(KafkaTopic::as_str),
            metadata_headers: self.metadata_headers.iter().map(|header| header.as_str()).collect(),
            sink: Sink {
                kafka: self.sink.properties.iter().map(|(name, value)| (name, property((name, value)))).collect(),
            },
        })
    }
}

fn mqtt(source: &MqttSource) -> Mqtt<'_> {
    Mqtt {
        servers: source.servers.iter().map(ToString::to_string).collect(),
        version: match source.version {
            Version::V5 => "5",
            Version::V311 => "3.1.1",
        },
        username: source.username.as_ref().map(|value| value.show(false)),
        password: source.password.as_ref().map(|value| value.show(true)),
        ca_file: source.ca_file.as_ref().map(|path| path.display().to_string()),
        topics: source.topics.iter().map(Filter::as_str).collect(),
        qos: match source.qos {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => 1,
            Qos::ExactlyOnce => 2,
        },
        share_group: source.share_group.as_ref().map(ShareGroup::as_str),
        shared: source.share_group.is_some(),
        keep_alive: units::show_duration(source.keep_alive),
        connect_timeout: units::show_duration(source.connect_timeout),
        receive_maximum: source.receive_maximum.get(),
        packet_bytes_max: units::show_size(source.packet_bytes_max as u64),
        delivers_after_unsubscribe: source.delivers_after_unsubscribe,
    }
}

fn rule(rule: &Rule) -> RuleView<'_> {
    let pattern = rule.matcher.as_str();
    let is_regex = rule.matcher.is_regex();
    RuleView {
        levels: (!is_regex).then_some(pattern),
        regex: is_regex.then_some(pattern),
        topic: rule.target.topic.as_str(),
        key: rule.target.key.as_str(),
        headers: rule.target.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
    }
}
