//! Tests of the session: transcripts of each rule, a model broker under random faults, the codec as a second opinion, and speed.
//!
//! What the session writes is read with rumqttc's codec, and what it reads is written with it or by hand.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod codec_agrees;
mod filters;
mod model;
mod speed;
mod transcripts;

use std::{
    num::NonZeroU16,
    time::{Duration, Instant},
};

use bytes::{BufMut, BytesMut};
use rumqttc::{mqttbytes::v4, v5::mqttbytes::v5};

use super::*;

pub(super) const VERSIONS: [Version; 2] = [Version::V5, Version::V311];

pub(super) fn settings(version: Version, qos: Qos) -> Settings {
    Settings {
        version,
        client_id: "sluice-readings-0".into(),
        username: None,
        password: None,
        connack_within: Duration::from_secs(3),
        keep_alive: Duration::from_secs(60),
        receive_maximum: NonZeroU16::new(100).unwrap(),
        qos,
        filters: vec!["$share/readings/a/+".into()],
        packet_bytes_max: 1 << 20,
        expects_session: false,
        ends_session: false,
    }
}

/// With a plain filter, of which a silent broker is not reminded.
pub(super) fn unshared(settings: Settings) -> Settings {
    Settings { filters: vec!["a/+".into()], ..settings }
}

/// A packet of the session, as the broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    Connect { is_clean: bool },
    Puback(u16),
    Pubrec(u16),
    Pubcomp(u16),
    PubcompUnknown(u16),
    Subscribe(u16, Vec<String>),
    Unsubscribe(u16, Vec<String>),
    Pingreq,
    Disconnect,
}

/// Takes the first whole packet off `out`.
pub(super) fn take_sent(out: &mut BytesMut, version: Version) -> Option<Sent> {
    frame::frame(out, usize::MAX).unwrap()?;
    Some(match version {
        Version::V5 => match v5::Packet::read(out, None).unwrap_or(v5::Packet::PingResp(v5::PingResp)) {
            v5::Packet::Connect(connect, ..) => Sent::Connect { is_clean: connect.clean_start },
            v5::Packet::PubAck(ack) => Sent::Puback(ack.pkid),
            v5::Packet::PubRec(ack) => Sent::Pubrec(ack.pkid),
            v5::Packet::PubComp(ack) if ack.reason == v5::PubCompReason::Success => Sent::Pubcomp(ack.pkid),
            v5::Packet::PubComp(ack) => Sent::PubcompUnknown(ack.pkid),
            v5::Packet::Subscribe(asked) => {
                Sent::Subscribe(asked.pkid, asked.filters.into_iter().map(|filter| filter.path).collect())
            }
            v5::Packet::Unsubscribe(asked) => Sent::Unsubscribe(asked.pkid, asked.filters),
            v5::Packet::PingReq(_) => Sent::Pingreq,
            // The codec cannot read DISCONNECT of length 0, and a session writes nothing else that it cannot.
            _ => Sent::Disconnect,
        },
        Version::V311 => match v4::Packet::read(out, usize::MAX).unwrap() {
            v4::Packet::Connect(connect) => Sent::Connect { is_clean: connect.clean_session },
            v4::Packet::PubAck(ack) => Sent::Puback(ack.pkid),
            v4::Packet::PubRec(ack) => Sent::Pubrec(ack.pkid),
            v4::Packet::PubComp(ack) => Sent::Pubcomp(ack.pkid),
            v4::Packet::Subscribe(asked) => {
                Sent::Subscribe(asked.pkid, asked.filters.into_iter().map(|filter| filter.path).collect())
            }
            v4::Packet::Unsubscribe(asked) => Sent::Unsubscribe(asked.pkid, asked.topics),
            v4::Packet::PingReq => Sent::Pingreq,
            v4::Packet::Disconnect => Sent::Disconnect,
            other => panic!("a session does not send {other:?}"),
        },
    })
}

pub(super) fn all_sent(out: &mut BytesMut, version: Version) -> Vec<Sent> {
    std::iter::from_fn(|| take_sent(out, version)).collect()
}

pub(super) fn connack(version: Version, is_session_present: bool) -> Vec<u8> {
    match version {
        Version::V5 => vec![0x20, 3, u8::from(is_session_present), 0, 0],
        Version::V311 => vec![0x20, 2, u8::from(is_session_present), 0],
    }
}

pub(super) fn publish(version: Version, qos: u8, packet_id: u16, is_duplicate: bool, payload: &str) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u16(3);
    body.put_slice(b"a/b");
    if qos > 0 {
        body.put_u16(packet_id);
    }
    if version == Version::V5 {
        body.put_u8(0);
    }
    body.put_slice(payload.as_bytes());
    let mut packet = vec![0x30 | qos << 1 | u8::from(is_duplicate) << 3, u8::try_from(body.len()).unwrap()];
    packet.extend_from_slice(&body);
    packet
}

pub(super) fn pubrel(packet_id: u16) -> Vec<u8> {
    let [high, low] = packet_id.to_be_bytes();
    vec![0x62, 2, high, low]
}

pub(super) fn suback(version: Version, packet_id: u16, codes: &[u8]) -> Vec<u8> {
    acks(0x90, version, packet_id, codes)
}

pub(super) fn unsuback(version: Version, packet_id: u16, codes: &[u8]) -> Vec<u8> {
    acks(0xB0, version, packet_id, if version == Version::V5 { codes } else { &[] })
}

fn acks(first: u8, version: Version, packet_id: u16, codes: &[u8]) -> Vec<u8> {
    let [high, low] = packet_id.to_be_bytes();
    let mut body = vec![high, low];
    if version == Version::V5 {
        body.push(0);
    }
    body.extend_from_slice(codes);
    [vec![first, u8::try_from(body.len()).unwrap()], body].concat()
}

/// The numbers of the readings among `events`.
pub(super) fn readings(events: &[Event]) -> Vec<u64> {
    events
        .iter()
        .filter_map(|event| if let Event::Reading(reading) = event { Some(reading.seq.0) } else { None })
        .collect()
}

/// A session at the end of a wire that the test holds.
pub(super) struct Wire {
    pub(super) session: Session,
    pub(super) now: Instant,
    pub(super) out: BytesMut,
    pub(super) version: Version,
}

impl Wire {
    pub(super) fn new(settings: Settings) -> Self {
        let version = settings.version;
        Self { session: Session::new(settings).unwrap(), now: Instant::now(), out: BytesMut::new(), version }
    }

    /// Connected and subscribed, with what that wrote taken off.
    pub(super) fn open(version: Version, qos: Qos) -> Self {
        let mut wire = Self::new(settings(version, qos));
        wire.reconnect(false);
        wire
    }

    pub(super) fn reconnect(&mut self, is_session_present: bool) {
        self.session.connect(self.now, &mut self.out).unwrap();
        self.hear(&connack(self.version, is_session_present)).unwrap();
        let sent = self.sent();
        assert!(matches!(sent[0], Sent::Connect { is_clean: false }), "{sent:?}");
        for sent in &sent[1..] {
            let Sent::Subscribe(packet_id, filters) = sent else { continue };
            let codes = vec![self.session.settings().qos.number(); filters.len()];
            let packet = suback(self.version, *packet_id, &codes);
            self.hear(&packet).unwrap();
        }
    }

    /// The broker sends `bytes`: all events of them.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<Vec<Event>, SessionError> {
        let mut input = BytesMut::from(bytes);
        let mut events = Vec::new();
        while let Some(event) = self.session.next(&mut input, self.now, &mut self.out)? {
            let is_last = matches!(event, Event::Disconnected(_));
            events.push(event);
            if is_last {
                break;
            }
        }
        Ok(events)
    }

    /// The broker sends a PUBLISH: the reading, if it is handed out.
    pub(super) fn publish(&mut self, qos: u8, packet_id: u16, is_duplicate: bool, payload: &str) -> Option<Reading> {
        let packet = publish(self.version, qos, packet_id, is_duplicate, payload);
        let event = self.hear(&packet).unwrap().into_iter().next()?;
        let Event::Reading(reading) = event else { panic!("{event:?}") };
        assert_eq!(reading.payload, payload);
        Some(reading)
    }

    pub(super) fn ack_up_to(&mut self, watermark: u64) -> Vec<Sent> {
        self.session.ack_up_to(Seq(watermark), &mut self.out);
        self.sent()
    }

    pub(super) fn sent(&mut self) -> Vec<Sent> {
        all_sent(&mut self.out, self.version)
    }
}
