//! Kafka headers that tell what MQTT says of a reading. Each costs about half a microsecond a reading, so none is on by default.

use std::ffi::CStr;

use super::{MqttSource, source};
use crate::{
    config::read::{Field, Table},
    pipeline::source::session::Version,
};

/// What a header can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetadataHeader {
    /// `topic` → `mqtt.topic`: the MQTT topic, UTF-8.
    Topic,
    /// `qos` → `mqtt.qos`: `0`, `1` or `2`, as the broker sent it.
    Qos,
    /// `retain` → `mqtt.retain`: `true` or `false`.
    Retain,
    /// `duplicate` → `mqtt.duplicate`: `true` where the broker marked the reading as sent before, else `false`.
    Duplicate,
    /// `received-at` → `mqtt.received-at`: when the node read it, in milliseconds since 1970 UTC, decimal.
    ReceivedAt,
    /// `content-type` → `mqtt.content-type`: MQTT 5; absent where the publisher gave none.
    ContentType,
    /// `correlation-data` → `mqtt.correlation-data`: MQTT 5, bytes; absent where the publisher gave none.
    CorrelationData,
    /// `user-properties` → `mqtt.user.<name>`: MQTT 5, one header for each user property, in their order.
    UserProperties,
}

const WORDS: [(&str, MetadataHeader); 8] = [
    ("topic", MetadataHeader::Topic),
    ("qos", MetadataHeader::Qos),
    ("retain", MetadataHeader::Retain),
    ("duplicate", MetadataHeader::Duplicate),
    ("received-at", MetadataHeader::ReceivedAt),
    ("content-type", MetadataHeader::ContentType),
    ("correlation-data", MetadataHeader::CorrelationData),
    ("user-properties", MetadataHeader::UserProperties),
];

impl MetadataHeader {
    /// The word in the manifest.
    pub fn as_str(self) -> &'static str {
        WORDS.iter().find(|(_, header)| *header == self).map_or("", |(word, _)| word)
    }

    /// The Kafka header's name; of user properties, what comes before the property's own name.
    pub fn kafka_name(self) -> &'static CStr {
        match self {
            Self::Topic => c"mqtt.topic",
            Self::Qos => c"mqtt.qos",
            Self::Retain => c"mqtt.retain",
            Self::Duplicate => c"mqtt.duplicate",
            Self::ReceivedAt => c"mqtt.received-at",
            Self::ContentType => c"mqtt.content-type",
            Self::CorrelationData => c"mqtt.correlation-data",
            Self::UserProperties => c"mqtt.user.",
        }
    }

    /// Its value is a property of the reading, and properties came with MQTT 5.
    pub(crate) fn needs_v5(self) -> bool {
        matches!(self, Self::ContentType | Self::CorrelationData | Self::UserProperties)
    }
}

pub(super) fn read(field: &Field<'_>) -> Option<Vec<MetadataHeader>> {
    let items = field.list("header words, as in [topic, received-at]")?;
    let mut headers = source::all(items.iter().map(|item| item.word(&WORDS)))?;
    headers.sort_unstable();
    headers.dedup();
    Some(headers)
}

/// Refuses what the source's version cannot tell.
pub(super) fn check_version(
    table: &Table<'_>,
    source: Option<&MqttSource>,
    headers: Option<Vec<MetadataHeader>>,
) -> Option<Vec<MetadataHeader>> {
    let headers = headers?;
    let is_v311 = source.is_some_and(|source| source.version == Version::V311);
    match (headers.iter().find(|header| header.needs_v5()), table.field("metadata_headers")) {
        (Some(header), Some(field)) if is_v311 => {
            field.refuse(format!("MQTT 3.1.1 has no {}; remove it, or use version 5", header.as_str()))
        }
        _ => Some(headers),
    }
}
