//! A scripted MQTT broker: bytes written and read by hand, so that the session under test meets exactly the bytes of the test and
//! shares no code with the one that judges it.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::eventually::PATIENCE;

/// Packet types that a client sends [MQTT-2.1.2].
pub const CONNECT: u8 = 1;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;
pub const SUBSCRIBE: u8 = 8;
pub const PINGREQ: u8 = 12;
pub const DISCONNECT: u8 = 14;

/// A listening broker that knows nothing of MQTT but packet boundaries.
#[derive(Debug)]
pub struct Broker {
    listener: TcpListener,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

/// One client's connection.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    input: Vec<u8>,
    /// What the one filter of a shard was granted, once it was.
    granted: Option<u8>,
}

/// A packet that the client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// High half of the first byte.
    pub kind: u8,
    /// What follows the remaining length.
    pub body: Vec<u8>,
}

/// The bytes of a PUBLISH, QoS 1 or 2, without properties.
///
/// # Errors
/// It is too long.
pub fn publish(qos: u8, id: u16, dup: bool, topic: &str, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
    let remaining = 2 + topic.len() + 2 + 1 + payload.len();
    ensure!(remaining < 128, "keep it short: one length byte");
    let mut bytes = vec![0x30 | (u8::from(dup) << 3) | (qos << 1), u8::try_from(remaining)?];
    bytes.extend(u16::try_from(topic.len())?.to_be_bytes());
    bytes.extend(topic.as_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.push(0);
    bytes.extend(payload);
    Ok(bytes)
}

impl Packet {
    /// The packet id, where the body begins with one.
    pub fn id(&self) -> Option<u16> {
        Some(u16::from_be_bytes([*self.body.first()?, *self.body.get(1)?]))
    }
}

impl Broker {
    /// Listens on a free port.
    ///
    /// # Errors
    /// There is none.
    pub fn listen() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// Takes the next connection.
    ///
    /// # Errors
    /// Nobody connects.
    pub fn accept(&self) -> anyhow::Result<Link> {
        let stream = crate::eventually("a client connects", || Ok(self.listener.accept()?.0))?;
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        Ok(Link { stream, input: Vec::new(), granted: None })
    }

    /// Takes the next connection up to CONNACK: everything granted, with these readings in flight at most.
    ///
    /// # Errors
    /// Nobody connects, or not with CONNECT first.
    pub fn accept_session(&self, session_present: bool) -> anyhow::Result<Link> {
        let mut link = self.accept()?;
        let connect = link.expect(CONNECT)?;
        ensure!(connect.body.starts_with(b"\x00\x04MQTT\x05"), "not MQTT 5: {connect:?}");
        ensure!(connect.body[7] & 0b10 == 0, "Clean Start must be 0: {connect:?}");
        // CONNACK: flags, success, no properties: the defaults grant everything.
        link.send(&[0x20, 3, u8::from(session_present), 0, 0])?;
        Ok(link)
    }
}

impl Link {
    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The client is gone.
    pub fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).context("the client is gone")
    }

    /// Sends a PUBLISH, QoS 1 or 2, without properties.
    ///
    /// # Errors
    /// The client is gone.
    pub fn publish(&mut self, qos: u8, id: u16, dup: bool, topic: &str, payload: &[u8]) -> anyhow::Result<()> {
        self.send(&publish(qos, id, dup, topic, payload)?)
    }

    /// Sends PUBREL.
    ///
    /// # Errors
    /// The client is gone.
    pub fn release(&mut self, id: u16) -> anyhow::Result<()> {
        let [high, low] = id.to_be_bytes();
        self.send(&[0x62, 2, high, low])
    }

    /// The next packet but pings and reminders, which are answered; it must be of this kind.
    ///
    /// # Errors
    /// It is of another kind, or does not come.
    pub fn expect(&mut self, kind: u8) -> anyhow::Result<Packet> {
        let packet = self.next(PATIENCE)?.with_context(|| format!("no packet of kind {kind} came"))?;
        ensure!(packet.kind == kind, "expected kind {kind}, got {packet:?}");
        Ok(packet)
    }

    /// Takes SUBSCRIBE and grants its one filter.
    ///
    /// # Errors
    /// It is not SUBSCRIBE that comes.
    pub fn grant_subscription(&mut self, qos: u8) -> anyhow::Result<Packet> {
        let subscribe = self.expect(SUBSCRIBE)?;
        self.grant(&subscribe, qos)?;
        Ok(subscribe)
    }

    /// Grants the one filter of this SUBSCRIBE, and of those to come.
    ///
    /// # Errors
    /// It has no packet id, or the client is gone.
    pub fn grant(&mut self, subscribe: &Packet, qos: u8) -> anyhow::Result<()> {
        let id = subscribe.id().context("SUBSCRIBE has a packet id")?;
        let [high, low] = id.to_be_bytes();
        self.granted = Some(qos);
        self.send(&[0x90, 4, high, low, 0, qos])
    }

    /// Fails if anything but a ping or a reminder comes within `time`.
    ///
    /// # Errors
    /// Something came.
    pub fn expect_silence(&mut self, time: Duration) -> anyhow::Result<()> {
        match self.next(time)? {
            None => Ok(()),
            Some(packet) => bail!("expected silence, got {packet:?}"),
        }
    }

    /// The next packet but pings and reminders; `None`: none came in time, or the client closed.
    ///
    /// # Errors
    /// The connection broke.
    pub fn next(&mut self, patience: Duration) -> anyhow::Result<Option<Packet>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(packet) = self.take_packet() {
                if packet.kind == PINGREQ {
                    self.send(&[0xd0, 0])?;
                    continue;
                }
                if let Some(qos) = self.granted.filter(|_| packet.kind == SUBSCRIBE) {
                    self.grant(&packet, qos)?;
                    continue;
                }
                return Ok(Some(packet));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.read(left)? {
                return Ok(None);
            }
        }
    }

    /// Reads once; false: nothing came in time, or the client closed.
    fn read(&mut self, patience: Duration) -> anyhow::Result<bool> {
        self.stream.set_read_timeout(Some(patience))?;
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(count) => {
                self.input.extend_from_slice(&chunk[..count]);
                Ok(count > 0)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) => Err(error).context("reading from the client"),
        }
    }

    fn take_packet(&mut self) -> Option<Packet> {
        let kind = self.input.first()? >> 4;
        let mut remaining = 0;
        for (index, byte) in self.input.iter().skip(1).take(4).enumerate() {
            remaining |= usize::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                let begin = index + 2;
                let body = self.input.get(begin..begin + remaining)?.to_vec();
                self.input.drain(..begin + remaining);
                return Some(Packet { kind, body });
            }
        }
        None
    }
}
