//! The packets of a client, read from bytes, and those of a broker, written to them. By hand and by the specification alone, so that they are a
//! second opinion on what the product writes and reads.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sluice_node::pipeline::source::session::Version;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    Connect(Connect),
    Puback(u16),
    Pubrec(u16),
    Pubcomp(u16),
    Subscribe(u16, Vec<String>),
    Unsubscribe(u16, Vec<String>),
    Pingreq,
    Disconnect { ends_session: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) is_clean: bool,
    /// MQTT 5 only.
    pub(crate) receive_maximum: Option<u16>,
}

/// Takes the first whole packet off `input`.
pub(crate) fn take(input: &mut BytesMut, version: Version) -> Option<Sent> {
    let first = *input.first()?;
    let (remaining, header) = varint(input.get(1..)?)?;
    if input.len() < 1 + header + remaining {
        return None;
    }
    input.advance(1 + header);
    let mut body = input.split_to(remaining).freeze();
    Some(match first {
        0x10 => Sent::Connect(connect(&mut body)),
        0x40 => Sent::Puback(body.get_u16()),
        0x50 => Sent::Pubrec(body.get_u16()),
        0x70 => Sent::Pubcomp(body.get_u16()),
        0x82 => {
            let id = request(&mut body, version);
            let filters = std::iter::from_fn(|| {
                let filter = (!body.is_empty()).then(|| text(&mut body));
                if filter.is_some() {
                    body.get_u8();
                }
                filter
            });
            Sent::Subscribe(id, filters.collect())
        }
        0xA2 => {
            let id = request(&mut body, version);
            Sent::Unsubscribe(id, std::iter::from_fn(|| (!body.is_empty()).then(|| text(&mut body))).collect())
        }
        0xC0 => Sent::Pingreq,
        // Reason, length of properties, Session Expiry Interval.
        0xE0 => Sent::Disconnect { ends_session: body.len() >= 7 && body[2..7] == [0x11, 0, 0, 0, 0] },
        _ => panic!("a client does not send a packet that begins with 0x{first:02X}"),
    })
}

fn connect(body: &mut Bytes) -> Connect {
    assert_eq!(text(body), "MQTT");
    let version = match body.get_u8() {
        5 => Version::V5,
        4 => Version::V311,
        other => panic!("protocol level {other}"),
    };
    let is_clean = body.get_u8() & 0b10 != 0;
    body.get_u16();
    let mut receive_maximum = None;
    if version == Version::V5 {
        let mut properties = section(body);
        while properties.has_remaining() {
            match properties.get_u8() {
                0x21 => receive_maximum = Some(properties.get_u16()),
                0x11 => properties.advance(4),
                0x22 => properties.advance(2),
                0x17 | 0x19 => properties.advance(1),
                other => panic!("property 0x{other:02X} in CONNECT"),
            }
        }
    }
    Connect { version, client_id: text(body), is_clean, receive_maximum }
}

/// Packet id, and properties passed over.
fn request(body: &mut Bytes, version: Version) -> u16 {
    let id = body.get_u16();
    if version == Version::V5 {
        section(body);
    }
    id
}

fn section(body: &mut Bytes) -> Bytes {
    let (length, header) = varint(body).expect("the length of properties");
    body.advance(header);
    body.split_to(length)
}

fn text(body: &mut Bytes) -> String {
    let length = usize::from(body.get_u16());
    String::from_utf8(body.split_to(length).to_vec()).expect("UTF-8")
}

fn varint(input: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

pub(crate) fn connack(version: Version, is_session_present: bool) -> Vec<u8> {
    match version {
        Version::V5 => vec![0x20, 3, u8::from(is_session_present), 0, 0],
        Version::V311 => vec![0x20, 2, u8::from(is_session_present), 0],
    }
}

pub(crate) fn publish(version: Version, qos: u8, id: u16, is_duplicate: bool, topic: &str, payload: &str) -> Vec<u8> {
    let remaining = 2 + topic.len() + 2 + usize::from(version == Version::V5) + payload.len();
    let short = |length: usize| u8::try_from(length).ok().filter(|length| *length < 128).expect("it is short");
    let mut packet = vec![0x30 | u8::from(is_duplicate) << 3 | qos << 1, short(remaining), 0, short(topic.len())];
    packet.put_slice(topic.as_bytes());
    packet.put_u16(id);
    if version == Version::V5 {
        packet.put_u8(0);
    }
    packet.put_slice(payload.as_bytes());
    packet
}

pub(crate) fn pubrel(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![0x62, 2, high, low]
}

/// SUBACK or UNSUBACK, everything granted.
pub(crate) fn granted(version: Version, first: u8, id: u16, codes: &[u8]) -> Vec<u8> {
    let properties = usize::from(version == Version::V5);
    let mut packet = vec![first, u8::try_from(2 + properties + codes.len()).expect("few filters")];
    packet.put_u16(id);
    packet.put_bytes(0, properties);
    packet.put_slice(codes);
    packet
}

pub(crate) const PINGRESP: [u8; 2] = [0xD0, 0];
/// DISCONNECT: session taken over.
pub(crate) const TAKEN_OVER: [u8; 2] = [0xE0, 1];
pub(crate) const TAKEN_OVER_REASON: u8 = 0x8E;
