//! Every packet but PUBLISH, both versions behind one face, over rumqttc's codec.
//!
//! The codec knows the properties; the few bytes around them are read here, because it takes DISCONNECT and PUBREL only in their
//! long forms, has no AUTH, refuses reason codes that it does not know, and reads a property past the end of its section.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttc::{
    mqttbytes::{QoS as QosV4, v4},
    v5::mqttbytes::{QoS as QosV5, v5},
};

use super::{
    error::SessionError,
    frame::{Varint, varint},
    settings::{Qos, Settings, Version},
};

/// A packet from the broker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Connack(Connack),
    Pubrel { packet_id: u16 },
    Suback(Acks),
    Unsuback(Acks),
    Pingresp,
    Disconnect { code: u8, properties: Option<v5::DisconnectProperties> },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connack {
    pub(super) is_session_present: bool,
    /// As MQTT 5 counts.
    pub(super) code: u8,
    pub(super) properties: Option<v5::ConnAckProperties>,
}

/// SUBACK or UNSUBACK.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acks {
    pub(super) packet_id: u16,
    pub(super) codes: Bytes,
}

/// Reads a packet that is not PUBLISH.
pub(super) fn read(first: u8, mut body: Bytes, version: Version) -> Result<Packet, SessionError> {
    match first {
        0x20 => read_connack(body, version).map(Packet::Connack),
        0x62 => Ok(Packet::Pubrel { packet_id: packet_id(&mut body)? }),
        0x90 => read_acks(body, version).map(Packet::Suback),
        0xB0 => read_acks(body, version).map(Packet::Unsuback),
        0xD0 => Ok(Packet::Pingresp),
        0xE0 if version == Version::V5 => read_disconnect(body),
        0xF0 => Err(SessionError::protocol("AUTH, although no authentication method was given [MQTT-4.12.0-6]")),
        _ => Err(SessionError::protocol(format!("a packet that starts with 0x{first:02X}"))),
    }
}

fn read_connack(mut body: Bytes, version: Version) -> Result<Connack, SessionError> {
    let (Ok(flags), Ok(code)) = (body.try_get_u8(), body.try_get_u8()) else { return Err(cut("CONNACK")) };
    let is_session_present = flags & 1 == 1;
    if version == Version::V311 || body.is_empty() {
        // A broker that speaks only 3.1.1 refuses MQTT 5 in its own form, without properties.
        let code = if code < 0x80 { code_of_v311(code) } else { code };
        return Ok(Connack { is_session_present, code, properties: None });
    }
    let properties = match v5::ConnAckProperties::read(&mut section(&mut body, "CONNACK")?) {
        Ok(properties) => properties,
        // What matters of a refusal is its code.
        Err(_) if code != 0 => None,
        Err(error) => return Err(SessionError::protocol(format!("CONNACK: {error}"))),
    };
    Ok(Connack { is_session_present, code, properties })
}

/// Return codes of MQTT 3.1.1, section 3.2.2.3, as MQTT 5 counts them.
fn code_of_v311(code: u8) -> u8 {
    match code {
        0 => 0x00,
        1 => 0x84,
        2 => 0x85,
        3 => 0x88,
        4 => 0x86,
        5 => 0x87,
        _ => 0x80,
    }
}

fn read_acks(mut body: Bytes, version: Version) -> Result<Acks, SessionError> {
    let packet_id = packet_id(&mut body)?;
    if version == Version::V5 {
        section(&mut body, "SUBACK or UNSUBACK")?;
    }
    Ok(Acks { packet_id, codes: body })
}

/// Without reason code it is 0x00, without property length there are none [MQTT-3.14.2.1].
fn read_disconnect(mut body: Bytes) -> Result<Packet, SessionError> {
    let code = body.try_get_u8().unwrap_or(0);
    let properties = match body.is_empty() {
        true => None,
        // The broker is gone whatever it says of why.
        false => v5::DisconnectProperties::extract(&mut section(&mut body, "DISCONNECT")?).unwrap_or_default(),
    };
    Ok(Packet::Disconnect { code, properties })
}

/// Cuts the property section with its length off the front.
fn section(body: &mut Bytes, what: &'static str) -> Result<Bytes, SessionError> {
    match varint(body) {
        Varint::Whole { value, bytes } if bytes + value <= body.len() => Ok(body.split_to(bytes + value)),
        _ => Err(cut(what)),
    }
}

fn packet_id(body: &mut Bytes) -> Result<u16, SessionError> {
    match body.try_get_u16() {
        Ok(0) => Err(SessionError::protocol("packet identifier 0 [MQTT-2.2.1-3]")),
        Ok(packet_id) => Ok(packet_id),
        Err(_) => Err(SessionError::protocol("a packet without packet identifier [MQTT-2.2.1]")),
    }
}

fn cut(what: &'static str) -> SessionError {
    SessionError::protocol(format!("{what} ends too early"))
}

/// CONNECT [MQTT-3.1]. By hand, because the codec takes text only as password, and none without a user name.
pub(super) fn write_connect(settings: &Settings, out: &mut BytesMut) -> Result<(), SessionError> {
    let mut body = BytesMut::new();
    write_bytes(b"MQTT", &mut body);
    body.put_u8(match settings.version {
        Version::V5 => 5,
        Version::V311 => 4,
    });
    let has_username = u8::from(settings.username.is_some()) << 7;
    let has_password = u8::from(settings.password.is_some()) << 6;
    body.put_u8(has_username | has_password | u8::from(settings.ends_session) << 1);
    body.put_u16(settings.keep_alive_secs());
    if settings.version == Version::V5 {
        connect_properties(settings).write(&mut body).map_err(not_written)?;
    }
    write_bytes(settings.client_id.as_bytes(), &mut body);
    for field in [settings.username.as_deref().map(str::as_bytes), settings.password.as_deref()].into_iter().flatten() {
        write_bytes(field, &mut body);
    }
    out.put_u8(0x10);
    write_varint(body.len(), out);
    out.extend_from_slice(&body);
    Ok(())
}

fn connect_properties(settings: &Settings) -> v5::ConnectProperties {
    v5::ConnectProperties {
        session_expiry_interval: Some(if settings.ends_session { 0 } else { u32::MAX }),
        receive_maximum: Some(settings.receive_maximum.get()),
        topic_alias_max: Some(0),
        request_problem_info: Some(1),
        ..v5::ConnectProperties::new()
    }
}

pub(super) fn write_subscribe(
    version: Version,
    packet_id: u16,
    filters: &[String],
    qos: Qos,
    out: &mut BytesMut,
) -> Result<(), SessionError> {
    match version {
        Version::V5 => {
            let filters = filters.iter().map(|filter| v5::Filter {
                // Retained messages come with a new subscription, not again at every connection [MQTT-3.3.1-10].
                retain_forward_rule: v5::RetainForwardRule::OnNewSubscribe,
                ..v5::Filter::new(filter.as_str(), qos_v5(qos))
            });
            let mut packet = v5::Subscribe::new_many(filters, None);
            packet.pkid = packet_id;
            packet.write(out).map_err(not_written)?;
        }
        Version::V311 => {
            let filters = filters.iter().map(|filter| v4::SubscribeFilter::new(filter.clone(), qos_v4(qos)));
            let mut packet = v4::Subscribe::new_many(filters);
            packet.pkid = packet_id;
            packet.write(out).map_err(not_written)?;
        }
    }
    Ok(())
}

pub(super) fn write_unsubscribe(
    version: Version,
    packet_id: u16,
    filters: &[String],
    out: &mut BytesMut,
) -> Result<(), SessionError> {
    match version {
        Version::V5 => {
            let packet = v5::Unsubscribe { pkid: packet_id, filters: filters.to_vec(), properties: None };
            packet.write(out).map_err(not_written)?;
        }
        Version::V311 => {
            v4::Unsubscribe { pkid: packet_id, topics: filters.to_vec() }.write(out).map_err(not_written)?;
        }
    }
    Ok(())
}

/// PUBACK, PUBREC or PUBCOMP with reason 0, which MQTT 5 writes as 3.1.1 does.
#[inline]
pub(super) fn write_ack(first: u8, packet_id: u16, out: &mut BytesMut) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

/// PUBCOMP for an id that is not held [MQTT-3.7.2.1].
pub(super) fn write_pubcomp_unknown(version: Version, packet_id: u16, out: &mut BytesMut) {
    let [high, low] = packet_id.to_be_bytes();
    match version {
        Version::V5 => out.extend_from_slice(&[0x70, 3, high, low, 0x92]),
        Version::V311 => out.extend_from_slice(&[0x70, 2, high, low]),
    }
}

pub(super) fn write_pingreq(out: &mut BytesMut) {
    out.extend_from_slice(&[0xC0, 0]);
}

/// DISCONNECT that keeps the session.
pub(super) fn write_disconnect(out: &mut BytesMut) {
    out.extend_from_slice(&[0xE0, 0]);
}

/// DISCONNECT that ends the session with the connection: Session Expiry Interval 0 [MQTT-3.14.2.2.2]. MQTT 5 only.
pub(super) fn write_disconnect_ending(out: &mut BytesMut) {
    out.extend_from_slice(&[0xE0, 7, 0x00, 5, 0x11, 0, 0, 0, 0]);
}

fn write_bytes(bytes: &[u8], out: &mut BytesMut) {
    // Settings are checked to fit.
    out.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.extend_from_slice(bytes);
}

fn write_varint(mut value: usize, out: &mut BytesMut) {
    loop {
        let low = (value & 0x7F).to_le_bytes()[0];
        value >>= 7;
        out.put_u8(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return;
        }
    }
}

fn not_written(error: impl std::fmt::Display) -> SessionError {
    SessionError::protocol(format!("a packet could not be written: {error}"))
}

fn qos_v5(qos: Qos) -> QosV5 {
    match qos {
        Qos::AtMostOnce => QosV5::AtMostOnce,
        Qos::AtLeastOnce => QosV5::AtLeastOnce,
        Qos::ExactlyOnce => QosV5::ExactlyOnce,
    }
}

fn qos_v4(qos: Qos) -> QosV4 {
    match qos {
        Qos::AtMostOnce => QosV4::AtMostOnce,
        Qos::AtLeastOnce => QosV4::AtLeastOnce,
        Qos::ExactlyOnce => QosV4::ExactlyOnce,
    }
}
