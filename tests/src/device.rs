//! A device: an MQTT 5 client that publishes single readings, each acknowledged before the next call returns.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::{
    self, QoS,
    v5::{
        Connect, ConnectProperties, ConnectReturnCode, Packet, PubAckReason, PubRecReason, PubRel, PubRelProperties,
        Publish, PublishProperties,
    },
};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A connected device.
#[derive(Debug)]
pub struct Device {
    stream: TcpStream,
    input: BytesMut,
    packet_id: u16,
}

/// What a publication is besides topic and payload.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// The broker keeps it for later subscribers.
    pub retain: bool,
    /// MQTT 5 content type.
    pub content_type: Option<String>,
    /// MQTT 5 correlation data.
    pub correlation_data: Option<Vec<u8>>,
    /// MQTT 5 user properties.
    pub user_properties: Vec<(String, String)>,
}

impl Device {
    /// Connects to a broker on 127.0.0.1 that lets anybody in.
    ///
    /// # Errors
    /// It does not let us in.
    pub fn connect(port: u16) -> anyhow::Result<Self> {
        Self::connect_as(port, None)
    }

    /// Connects with user name and password.
    ///
    /// # Errors
    /// The broker does not let us in.
    pub fn connect_as(port: u16, login: Option<(&str, &str)>) -> anyhow::Result<Self> {
        let connect = Connect {
            keep_alive: 0,
            client_id: String::new(),
            clean_start: true,
            properties: Some(ConnectProperties::new()),
        };
        let login = login.map(|(user, password)| mqttbytes::v5::Login::new(user, password));
        Ok(Self::open(port, connect, login)?.0)
    }

    /// Connects to a session that the broker keeps for ever. True: it had one.
    pub(crate) fn resume(port: u16, client_id: &str) -> anyhow::Result<(Self, bool)> {
        let properties = ConnectProperties { session_expiry_interval: Some(u32::MAX), ..ConnectProperties::new() };
        let client_id = client_id.to_owned();
        let connect = Connect { keep_alive: 0, client_id, clean_start: false, properties: Some(properties) };
        Self::open(port, connect, None)
    }

    fn open(port: u16, connect: Connect, login: Option<mqttbytes::v5::Login>) -> anyhow::Result<(Self, bool)> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("connecting to the MQTT broker")?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        let mut device = Self { stream, input: BytesMut::new(), packet_id: 0 };
        device.send(&Packet::Connect(connect, None, login))?;
        match device.receive()? {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => Ok((device, ack.session_present)),
            other => bail!("the MQTT broker refused a device: {other:?}"),
        }
    }

    /// Publishes one reading and waits for its acknowledgement.
    ///
    /// # Errors
    /// The broker does not acknowledge it.
    pub fn publish(&mut self, topic: &str, qos: u8, payload: &[u8]) -> anyhow::Result<()> {
        self.publish_with(topic, qos, payload, Extras::default())
    }

    /// Publishes one reading with everything MQTT 5 can say of it, and waits for its acknowledgement.
    ///
    /// # Errors
    /// The broker does not acknowledge it.
    pub fn publish_with(&mut self, topic: &str, qos: u8, payload: &[u8], extras: Extras) -> anyhow::Result<()> {
        let qos = mqttbytes::qos(qos).context("QoS is 0, 1 or 2")?;
        let properties = PublishProperties {
            content_type: extras.content_type,
            correlation_data: extras.correlation_data.map(Bytes::from),
            user_properties: extras.user_properties,
            ..PublishProperties::default()
        };
        let mut publish = Publish::new(topic, qos, payload.to_vec(), Some(properties));
        publish.retain = extras.retain;
        if qos != QoS::AtMostOnce {
            self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
            publish.pkid = self.packet_id;
        }
        self.send(&Packet::Publish(publish))?;
        match qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => self.expect_puback(),
            QoS::ExactlyOnce => self.finish_exactly_once(),
        }
    }

    fn expect_puback(&mut self) -> anyhow::Result<()> {
        let packet = self.receive()?;
        let Packet::PubAck(ack) = &packet else { bail!("not PUBACK: {packet:?}") };
        ensure!(ack.pkid == self.packet_id, "PUBACK for another reading: {packet:?}");
        let is_accepted = matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
        ensure!(is_accepted, "the MQTT broker refused a reading: {packet:?}");
        Ok(())
    }

    fn finish_exactly_once(&mut self) -> anyhow::Result<()> {
        let packet = self.receive()?;
        let Packet::PubRec(rec) = &packet else { bail!("not PUBREC: {packet:?}") };
        let is_accepted = matches!(rec.reason, PubRecReason::Success | PubRecReason::NoMatchingSubscribers);
        ensure!(is_accepted, "the MQTT broker refused a reading: {packet:?}");
        self.send(&Packet::PubRel(PubRel::new(self.packet_id, None::<PubRelProperties>)))?;
        let packet = self.receive()?;
        ensure!(matches!(packet, Packet::PubComp(_)), "not PUBCOMP: {packet:?}");
        Ok(())
    }

    pub(crate) fn send(&mut self, packet: &Packet) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        packet.write(&mut out, None).context("encoding")?;
        self.stream.write_all(&out).context("writing to the MQTT broker")
    }

    pub(crate) fn receive(&mut self) -> anyhow::Result<Packet> {
        self.receive_within(TIMEOUT)?.context("the MQTT broker sends nothing")
    }

    /// None: nothing came in time.
    pub(crate) fn receive_within(&mut self, patience: Duration) -> anyhow::Result<Option<Packet>> {
        self.stream.set_read_timeout(Some(patience))?;
        let mut chunk = [0; 4096];
        loop {
            match Packet::read(&mut self.input, None) {
                Ok(packet) => return Ok(Some(packet)),
                Err(mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => bail!("the MQTT broker sent what cannot be read: {error:?}"),
            }
            let count = match self.stream.read(&mut chunk) {
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
                Err(error) => return Err(error).context("reading from the MQTT broker"),
            };
            ensure!(count > 0, "the MQTT broker closed the connection");
            self.input.extend_from_slice(&chunk[..count]);
        }
    }
}
