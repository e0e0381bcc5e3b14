//! Kafka headers of a reading: what the mapping asks for, what MQTT says of it, and, on a dead letter, why it is one.

use std::{
    borrow::Cow,
    ffi::CString,
    time::{SystemTime, UNIX_EPOCH},
};

use super::shard::{DeadLetter, Origin};
use crate::{
    config::manifest::MetadataHeader,
    pipeline::{
        sink::{Header, Headers},
        source::session::Properties,
    },
};

/// All that MQTT says of a reading beside its topic: a dead letter carries it whole.
const ALL_BUT_TOPIC: [MetadataHeader; 7] = [
    MetadataHeader::Qos,
    MetadataHeader::Retain,
    MetadataHeader::Duplicate,
    MetadataHeader::ReceivedAt,
    MetadataHeader::ContentType,
    MetadataHeader::CorrelationData,
    MetadataHeader::UserProperties,
];

/// The header that says the MQTT topic: the same for all records of a route, which holds it.
pub(super) fn of_topic(mqtt_topic: &str) -> Header {
    (MetadataHeader::Topic.kafka_name().into(), mqtt_topic.as_bytes().to_vec().into())
}

/// Headers of a reading on its way to its own topic.
pub(super) fn of_reading(origin: &Origin, wanted: &[MetadataHeader]) -> Headers {
    let mut own = Vec::new();
    // The topic's is in the route.
    for kind in wanted.iter().filter(|kind| **kind != MetadataHeader::Topic) {
        push(*kind, origin, &mut own);
    }
    Headers { shared: origin.route.headers.clone(), own }
}

/// Headers of a reading on its way to the dead-letter topic.
pub(super) fn of_dead_letter(origin: &Origin, letter: &DeadLetter) -> Headers {
    let mut own: Vec<Header> = vec![(c"sluice.dead-letter.reason".into(), letter.reason.as_bytes().to_vec().into())];
    let topic = letter.kafka_topic.as_ref();
    own.extend(topic.map(|topic| (c"sluice.dead-letter.topic".into(), topic.as_bytes().to_vec().into())));
    own.push(of_topic(&origin.route.mqtt_topic));
    for kind in ALL_BUT_TOPIC {
        push(kind, origin, &mut own);
    }
    Headers { shared: None, own }
}

/// What MQTT says of the reading by this word, unless it says nothing.
fn push(kind: MetadataHeader, origin: &Origin, headers: &mut Vec<Header>) {
    let flag = |flag: bool| Cow::Borrowed(if flag { &b"true"[..] } else { b"false" });
    let properties = origin.properties.as_deref();
    let value = match kind {
        // The route's.
        MetadataHeader::Topic => None,
        MetadataHeader::Qos => Some(Cow::Borrowed(match origin.qos {
            0 => &b"0"[..],
            1 => b"1",
            _ => b"2",
        })),
        MetadataHeader::Retain => Some(flag(origin.is_retained)),
        MetadataHeader::Duplicate => Some(flag(origin.is_duplicate)),
        MetadataHeader::ReceivedAt => Some(origin.received_at_ms.to_string().into_bytes().into()),
        MetadataHeader::ContentType => properties.and_then(Properties::content_type).map(|text| text.to_vec().into()),
        MetadataHeader::CorrelationData => {
            properties.and_then(Properties::correlation_data).map(|data| data.to_vec().into())
        }
        MetadataHeader::UserProperties => {
            headers.extend(properties.into_iter().flat_map(Properties::user).filter_map(user_property));
            None
        }
    };
    headers.extend(value.map(|value| (kind.kafka_name().into(), value)));
}

fn user_property((name, value): (&[u8], &[u8])) -> Option<Header> {
    let prefix = MetadataHeader::UserProperties.kafka_name().to_string_lossy();
    header(&format!("{prefix}{}", String::from_utf8_lossy(name)), value.to_vec())
}

/// A header; none for a name with a NUL, which librdkafka cannot carry and the manifest's check refuses.
pub(super) fn header(name: &str, value: Vec<u8>) -> Option<Header> {
    Some((Cow::Owned(CString::new(name).ok()?), Cow::Owned(value)))
}

/// This machine's clock, for headers only.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
