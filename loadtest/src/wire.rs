//! PURE: MQTT 5 packets of a publisher. Publications are written by hand (one pass into one buffer, no allocation per reading);
//! the rest goes through rumqttc's codec.

use anyhow::{Context as _, bail};
use bytes::{BufMut as _, BytesMut};
use clap::ValueEnum;
use rumqttc::v5::mqttbytes::{
    self,
    v5::{
        Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Login, Packet, PingReq,
        PubAckReason, PubCompReason, PubRecReason, PubRel, PubRelProperties,
    },
};

/// Larger than any answer a publisher gets.
const ANSWER_BYTES_MAX: u32 = 64 * 1024;

/// MQTT quality of service.
#[expect(clippy::enum_variant_names, reason = "the specification's names")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Qos {
    /// At most once: nothing is acknowledged
    #[value(name = "0")]
    AtMostOnce = 0,
    /// At least once
    #[value(name = "1")]
    AtLeastOnce = 1,
    /// Exactly once
    #[value(name = "2")]
    ExactlyOnce = 2,
}

/// Who publishes.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) client_id: String,
    /// User name and password.
    pub(crate) login: Option<(String, String)>,
}

/// What the broker says to a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Connected {
        session_present: bool,
        receive_maximum: u16,
        is_qos_granted: bool,
    },
    /// PUBACK, PUBCOMP, or a PUBREC that refuses: this packet id is done.
    Done {
        packet_id: u16,
        outcome: Outcome,
    },
    /// PUBREC that accepts.
    Received {
        packet_id: u16,
        had_subscriber: bool,
    },
    Other,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    /// Accepted, and nobody was subscribed.
    AcceptedForNobody,
    Refused,
}

/// Writes CONNECT: the session outlives the connection, so that what was sent twice can be known as such. Clean Start 0 from the
/// first time on, as no other run has this client id: Mosquitto 2.0 does not persist a session that began with 1.
pub(crate) fn connect(identity: &Identity, out: &mut BytesMut) -> anyhow::Result<()> {
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(3_600);
    let connect = Connect {
        keep_alive: 60,
        client_id: identity.client_id.clone(),
        clean_start: false,
        properties: Some(properties),
    };
    let login = identity.login.as_ref().map(|(user, password)| Login::new(user, password));
    Packet::Connect(connect, None, login).write(out, None).context("CONNECT")?;
    Ok(())
}

/// Writes a PUBLISH of `topic` with the payload that is in `payload`.
pub(crate) fn publish(topic: &str, qos: Qos, packet_id: u16, is_again: bool, payload: &[u8], out: &mut BytesMut) {
    let id_bytes = if qos == Qos::AtMostOnce { 0 } else { 2 };
    let mut remaining = 2 + topic.len() + id_bytes + 1 + payload.len();
    out.put_u8(0b0011_0000 | (u8::from(is_again) << 3) | ((qos as u8) << 1));
    loop {
        let low = u8::try_from(remaining & 0x7f).unwrap_or(0);
        remaining >>= 7;
        if remaining == 0 {
            out.put_u8(low);
            break;
        }
        out.put_u8(low | 0x80);
    }
    out.put_u16(u16::try_from(topic.len()).unwrap_or(u16::MAX));
    out.put_slice(topic.as_bytes());
    if id_bytes != 0 {
        out.put_u16(packet_id);
    }
    out.put_u8(0); // no properties
    out.put_slice(payload);
}

/// Writes PUBREL.
pub(crate) fn release(packet_id: u16, out: &mut BytesMut) -> anyhow::Result<()> {
    Packet::PubRel(PubRel::new(packet_id, None::<PubRelProperties>)).write(out, None).context("PUBREL")?;
    Ok(())
}

/// Writes PINGREQ.
pub(crate) fn ping(out: &mut BytesMut) -> anyhow::Result<()> {
    Packet::PingReq(PingReq).write(out, None).context("PINGREQ")?;
    Ok(())
}

/// Writes DISCONNECT.
pub(crate) fn disconnect(out: &mut BytesMut) -> anyhow::Result<()> {
    let disconnect = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
    Packet::Disconnect(disconnect).write(out, None).context("DISCONNECT")?;
    Ok(())
}

/// Takes one answer off the front of `input`; `None`: more bytes are needed.
pub(crate) fn answer(input: &mut BytesMut, qos: Qos) -> anyhow::Result<Option<Answer>> {
    let packet = match Packet::read(input, Some(ANSWER_BYTES_MAX)) {
        Ok(packet) => packet,
        Err(mqttbytes::Error::InsufficientBytes(_)) => return Ok(None),
        Err(error) => bail!("the MQTT broker ended the connection or sent what cannot be read: {error:?}"),
    };
    let done = |packet_id, outcome| Answer::Done { packet_id, outcome };
    Ok(Some(match packet {
        Packet::ConnAck(ack) => {
            if ack.code != ConnectReturnCode::Success {
                return Err(Refused(format!("{:?}", ack.code)).into());
            }
            let properties = ack.properties.as_ref();
            Answer::Connected {
                session_present: ack.session_present,
                receive_maximum: properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX),
                is_qos_granted: properties.and_then(|p| p.max_qos).is_none_or(|max| qos as u8 <= max),
            }
        }
        Packet::PubAck(ack) => done(
            ack.pkid,
            match ack.reason {
                PubAckReason::Success => Outcome::Accepted,
                PubAckReason::NoMatchingSubscribers => Outcome::AcceptedForNobody,
                _ => Outcome::Refused,
            },
        ),
        Packet::PubRec(rec) => match rec.reason {
            PubRecReason::Success => Answer::Received { packet_id: rec.pkid, had_subscriber: true },
            PubRecReason::NoMatchingSubscribers => Answer::Received { packet_id: rec.pkid, had_subscriber: false },
            _ => done(rec.pkid, Outcome::Refused),
        },
        // The broker answered PUBREC before, so it owns the reading, even if it has forgotten the packet id since.
        Packet::PubComp(comp) => match comp.reason {
            PubCompReason::Success | PubCompReason::PacketIdentifierNotFound => done(comp.pkid, Outcome::Accepted),
        },
        Packet::Disconnect(disconnect) => bail!("the MQTT broker disconnected: {:?}", disconnect.reason_code),
        _ => Answer::Other,
    }))
}

/// The broker refused the connection for a reason that will not go away by itself.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the MQTT broker refused the connection: {}", self.0)
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use rumqttc::v5::mqttbytes::v5::{PubAck, PubRec};

    use super::*;

    #[test]
    fn publications_are_what_the_codec_reads() {
        for (qos, size) in [(Qos::AtMostOnce, 3), (Qos::AtLeastOnce, 200), (Qos::ExactlyOnce, 20_000)] {
            let payload = vec![7_u8; size];
            let mut out = BytesMut::new();
            publish("a/b", qos, 513, true, &payload, &mut out);
            let Ok(Packet::Publish(read)) = Packet::read(&mut out, None) else { panic!("not a PUBLISH") };
            assert_eq!((read.topic.as_ref(), read.payload.as_ref()), (b"a/b".as_ref(), payload.as_ref()));
            assert_eq!((read.qos as u8, read.dup), (qos as u8, true));
            assert_eq!(read.pkid, if qos == Qos::AtMostOnce { 0 } else { 513 });
            assert!(out.is_empty());
        }
    }

    #[test]
    fn refusals_are_not_acknowledgements() {
        let mut input = BytesMut::new();
        let mut ack = PubAck::new(5, None);
        ack.reason = PubAckReason::QuotaExceeded;
        let mut rec = PubRec::new(6, None);
        rec.reason = PubRecReason::NotAuthorized;
        for packet in [Packet::PubAck(ack), Packet::PubRec(rec), Packet::PubAck(PubAck::new(7, None))] {
            assert!(packet.write(&mut input, None).is_ok());
        }
        let mut next = || answer(&mut input, Qos::AtLeastOnce).ok().flatten();
        assert_eq!(next(), Some(Answer::Done { packet_id: 5, outcome: Outcome::Refused }));
        assert_eq!(next(), Some(Answer::Done { packet_id: 6, outcome: Outcome::Refused }));
        assert_eq!(next(), Some(Answer::Done { packet_id: 7, outcome: Outcome::Accepted }));
        assert_eq!(next(), None);
    }
}
