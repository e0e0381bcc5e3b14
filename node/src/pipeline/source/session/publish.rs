//! PUBLISH [MQTT-3.3], the packet that matters: cut out of the input without copying.
//!
//! rumqttc's codec moves a 400-byte packet through some thirty copies and does not look at the topic; this reads the same
//! packets (a property test compares the two) and refuses what a topic must not hold.

use bytes::{Buf, Bytes};

use super::{
    error::SessionError,
    frame::{Varint, varint},
    properties::Properties,
    settings::{Qos, Version},
};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    pub(super) properties: Properties,
    /// 0 with `QoS` 0.
    pub(super) packet_id: u16,
    pub(super) qos: Qos,
    pub(super) is_retained: bool,
    pub(super) is_duplicate: bool,
}

/// Reads what follows the fixed header.
// Inlined, as its answer is a hundred bytes that would be copied once more for every reading.
#[inline(always)]
pub(super) fn read(flags: u8, mut body: Bytes, version: Version) -> Result<Publish, SessionError> {
    let Some(qos) = Qos::from_number(flags >> 1 & 0b11) else {
        return Err(SessionError::protocol("a PUBLISH with QoS 3 [MQTT-3.3.1-4]"));
    };
    let topic_bytes = usize::from(u16_at(&body, 0)?);
    let id_at = 2 + topic_bytes;
    check_topic(body.get(2..id_at).ok_or_else(cut)?)?;
    let (packet_id, mut payload_at) = match qos {
        Qos::AtMostOnce => (0, id_at),
        Qos::AtLeastOnce | Qos::ExactlyOnce => match u16_at(&body, id_at)? {
            0 => return Err(SessionError::protocol("a PUBLISH with packet identifier 0 [MQTT-2.2.1-3]")),
            packet_id => (packet_id, id_at + 2),
        },
    };
    let properties = match version {
        Version::V311 => Properties::default(),
        Version::V5 => {
            let (properties, end) = read_properties(&body, payload_at)?;
            payload_at = end;
            properties
        }
    };
    let topic = body.slice(2..id_at);
    body.advance(payload_at);
    Ok(Publish {
        topic,
        payload: body,
        properties,
        packet_id,
        qos,
        is_retained: flags & 0b0001 != 0,
        is_duplicate: flags & 0b1000 != 0,
    })
}

fn read_properties(body: &Bytes, at: usize) -> Result<(Properties, usize), SessionError> {
    let Varint::Whole { value, bytes } = varint(&body[at..]) else { return Err(cut()) };
    let (start, end) = (at + bytes, at + bytes + value);
    match value {
        0 => Ok((Properties::default(), end)),
        _ if end > body.len() => Err(cut()),
        _ => Ok((Properties::checked(body.slice(start..end))?, end)),
    }
}

fn check_topic(topic: &[u8]) -> Result<(), SessionError> {
    // An empty topic stands for an alias, and none is allowed.
    if topic.is_empty() {
        return Err(SessionError::protocol("a PUBLISH without topic [MQTT-4.7.3-1]"));
    }
    // Bytes without an early exit, not bools with one: so the compiler looks at sixteen at once.
    let forbidden = |byte: u8| u8::from(byte == 0) | u8::from(byte == b'+') | u8::from(byte == b'#');
    if topic.iter().fold(0, |found, byte| found | forbidden(*byte)) != 0 {
        return Err(SessionError::protocol("a topic with a wildcard or U+0000 [MQTT-3.3.2-2]"));
    }
    match std::str::from_utf8(topic) {
        Ok(_) => Ok(()),
        Err(_) => Err(SessionError::protocol("a topic that is not UTF-8 [MQTT-1.5.4-1]")),
    }
}

fn u16_at(body: &[u8], at: usize) -> Result<u16, SessionError> {
    body.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u16::from_be_bytes(*bytes)).ok_or_else(cut)
}

fn cut() -> SessionError {
    SessionError::protocol("a PUBLISH that ends too early [MQTT-3.3.2]")
}
