//! What a client says while it gets readings: acks, in the order of the readings, and now and then a question.

use anyhow::{bail, ensure};

/// Packet types that a client sends [MQTT-2.1.2].
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBCOMP: u8 = 7;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;

/// Follows the acks of one session.
#[derive(Debug)]
pub(super) struct Acks {
    window: usize,
    is_v5: bool,
    qos: u8,
    /// Readings whose first ack has come, and whose last.
    received: u64,
    pub(super) complete: u64,
}

/// What was in the bytes of one read.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Bytes taken: what follows is the start of a packet.
    pub(super) taken: usize,
    /// Readings that were acknowledged for the first time.
    pub(super) received: u64,
    /// To be written.
    pub(super) answers: Vec<u8>,
    pub(super) has_subscribed: bool,
    pub(super) has_left: bool,
}

impl Acks {
    /// A session whose first `acked` readings are acknowledged for good. What else had been sent is sent again.
    pub(super) fn new(window: u16, is_v5: bool, qos: u8, acked: u64) -> Self {
        Self { window: usize::from(window), is_v5, qos, received: acked, complete: acked }
    }

    /// Takes every whole packet.
    ///
    /// # Errors
    /// An ack is not the next one that is due, or the client says what has no place here.
    pub(super) fn take(&mut self, input: &[u8]) -> anyhow::Result<Heard> {
        let mut heard = Heard::default();
        while let Some((kind, body, length)) = packet(&input[heard.taken..])? {
            match kind {
                PUBACK | PUBREC => {
                    ensure!((kind == PUBACK) == (self.qos == 1), "an ack of kind {kind} for QoS {}", self.qos);
                    self.received = self.next(self.received, body)?;
                    heard.received += 1;
                    if kind == PUBACK {
                        self.complete = self.received;
                    } else {
                        heard.answers.extend([0x62, 2, body[0], body[1]]);
                    }
                }
                PUBCOMP => {
                    ensure!(self.complete < self.received, "PUBCOMP before its PUBREC");
                    self.complete = self.next(self.complete, body)?;
                }
                SUBSCRIBE => {
                    heard.answers.extend(self.granted(0x90, body)?);
                    heard.has_subscribed = true;
                }
                UNSUBSCRIBE => heard.answers.extend(self.granted(0xB0, body)?),
                PINGREQ => heard.answers.extend([0xD0, 0]),
                DISCONNECT => heard.has_left = true,
                kind => bail!("a packet of kind {kind} from a client that only acks"),
            }
            heard.taken += length;
        }
        Ok(heard)
    }

    fn next(&self, before: u64, body: &[u8]) -> anyhow::Result<u64> {
        let expected = before % self.window as u64 + 1;
        let id = body.first_chunk().map(|id| u64::from(u16::from_be_bytes(*id)));
        ensure!(id == Some(expected), "an ack of {id:?}, not of {expected}");
        ensure!(body.get(2).is_none_or(|code| *code < 0x80), "a reading was refused with {:?}", body.get(2));
        Ok(before + 1)
    }

    /// SUBACK or UNSUBACK for one filter: a shard has no more here.
    fn granted(&self, first: u8, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let Some([high, low]) = body.first_chunk() else { bail!("a packet without an id") };
        let filter = if self.is_v5 { 3 + usize::from(*body.get(2).unwrap_or(&0)) } else { 2 };
        let length = body.get(filter..).and_then(|rest| rest.first_chunk()).map(|length| u16::from_be_bytes(*length));
        let end = filter + 2 + usize::from(length.unwrap_or(0)) + usize::from(first == 0x90);
        ensure!(end == body.len(), "only one filter at a time is granted here");
        let codes: &[u8] = if first == 0x90 {
            &[self.qos]
        } else if self.is_v5 {
            &[0]
        } else {
            &[]
        };
        let properties: &[u8] = if self.is_v5 { &[0] } else { &[] };
        let length = u8::try_from(2 + properties.len() + codes.len())?;
        Ok([&[first, length, *high, *low], properties, codes].concat())
    }
}

/// The first packet: its kind, its body, its length; none: it is not whole.
pub(super) fn packet(input: &[u8]) -> anyhow::Result<Option<(u8, &[u8], usize)>> {
    let Some(first) = input.first() else { return Ok(None) };
    let (mut remaining, mut at) = (0_usize, 1);
    loop {
        ensure!(at < 5, "a remaining length of five bytes [MQTT-1.5.5]");
        let Some(byte) = input.get(at) else { return Ok(None) };
        remaining |= usize::from(byte & 0x7F) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(input.get(at..at + remaining).map(|body| (first >> 4, body, at + remaining)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
mod tests {
    use super::*;

    fn ack(first: u8, id: u8) -> Vec<u8> {
        vec![first, 2, 0, id]
    }

    #[test]
    fn acks_are_counted_in_order_and_a_rest_is_left() {
        let mut acks = Acks::new(3, true, 1, 5);
        let heard = acks.take(&[ack(0x40, 3), ack(0x40, 1), vec![0xC0, 0, 0x40]].concat()).unwrap();
        assert_eq!((heard.taken, heard.received, acks.complete, heard.answers), (10, 2, 7, vec![0xD0, 0]));
        assert!(acks.take(&ack(0x40, 3)).is_err(), "2 is due");
    }

    #[test]
    fn qos_2_is_complete_with_its_second_ack() {
        let mut acks = Acks::new(3, true, 2, 0);
        let heard = acks.take(&[ack(0x50, 1), ack(0x50, 2)].concat()).unwrap();
        assert_eq!((heard.received, acks.complete), (2, 0));
        assert_eq!(heard.answers, [0x62, 2, 0, 1, 0x62, 2, 0, 2]);
        assert_eq!(acks.take(&ack(0x70, 1)).unwrap().received, 0);
        assert_eq!(acks.complete, 1);
        acks.take(&ack(0x70, 2)).unwrap();
        assert!(acks.take(&ack(0x70, 3)).is_err());
    }

    #[test]
    fn a_reminder_is_answered() {
        let subscribe = [0x82, 7, 0, 9, 0, 0, 1, b'#', 1];
        let heard = Acks::new(1, true, 1, 0).take(&subscribe[..]).unwrap();
        assert_eq!(heard.answers, [0x90, 4, 0, 9, 0, 1]);
    }
}
