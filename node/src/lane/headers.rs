//! Kafka headers of a reading: what the mapping asks for, what MQTT says of it, and, on a dead letter, why it is one.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    routes::header,
    shard::{DeadLetter, Origin},
};
use crate::{
    config::manifest::MetadataHeader,
    pipeline::{
        sink::Header,
        source::session::{Properties, Property},
    },
};

/// All that MQTT says of a reading: a dead letter carries it whole.
const ALL: [MetadataHeader; 8] = [
    MetadataHeader::Topic,
    MetadataHeader::Qos,
    MetadataHeader::Retain,
    MetadataHeader::Duplicate,
    MetadataHeader::ReceivedAt,
    MetadataHeader::ContentType,
    MetadataHeader::CorrelationData,
    MetadataHeader::UserProperties,
];

/// Headers of a reading on its way to its own topic.
pub(super) fn of_reading(origin: &Origin, wanted: &[MetadataHeader]) -> Vec<Header> {
    if wanted.is_empty() && origin.route.headers.is_empty() {
        return Vec::new();
    }
    let mut headers = origin.route.headers.clone();
    metadata(origin, wanted, &mut headers);
    headers
}

/// Headers of a reading on its way to the dead-letter topic.
pub(super) fn of_dead_letter(origin: &Origin, letter: &DeadLetter) -> Vec<Header> {
    let mut headers = Vec::new();
    headers.extend(header("sluice.dead-letter.reason", letter.reason.as_bytes().to_vec()));
    let topic = letter.kafka_topic.as_ref();
    headers.extend(topic.and_then(|topic| header("sluice.dead-letter.topic", topic.as_bytes().to_vec())));
    metadata(origin, &ALL, &mut headers);
    headers
}

fn metadata(origin: &Origin, wanted: &[MetadataHeader], headers: &mut Vec<Header>) {
    let flag = |flag: bool| if flag { b"true".to_vec() } else { b"false".to_vec() };
    let properties = origin.properties.as_deref();
    for kind in wanted {
        let value = match kind {
            MetadataHeader::Topic => Some(origin.route.mqtt_topic.as_bytes().to_vec()),
            MetadataHeader::Qos => Some(vec![b'0' + origin.qos]),
            MetadataHeader::Retain => Some(flag(origin.is_retained)),
            MetadataHeader::Duplicate => Some(flag(origin.is_duplicate)),
            MetadataHeader::ReceivedAt => Some(origin.received_at_ms.to_string().into_bytes()),
            MetadataHeader::ContentType => properties.and_then(Properties::content_type).map(<[u8]>::to_vec),
            MetadataHeader::CorrelationData => properties.and_then(Properties::correlation_data).map(<[u8]>::to_vec),
            MetadataHeader::UserProperties => {
                headers.extend(properties.into_iter().flat_map(Properties::iter).filter_map(user_property));
                None
            }
        };
        headers.extend(value.and_then(|value| header(kind.kafka_name(), value)));
    }
}

fn user_property(property: Property<'_>) -> Option<Header> {
    let Property::User(name, value) = property else { return None };
    let name = format!("{}{}", MetadataHeader::UserProperties.kafka_name(), String::from_utf8_lossy(name));
    header(&name, value.to_vec())
}

/// This machine's clock, for headers only.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
