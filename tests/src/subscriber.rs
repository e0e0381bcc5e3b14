//! A member of a share group: an MQTT 5 client with a session that the broker keeps, which acknowledges nothing until it is told to.

use std::time::Duration;

use anyhow::{bail, ensure};
use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{
        Disconnect, DisconnectProperties, DisconnectReasonCode, Filter, Packet, PubAck, Publish, Subscribe, Unsubscribe,
    },
};

use crate::device::Device;

/// Every SUBSCRIBE and UNSUBSCRIBE is waited for: one packet id does.
const PACKET_ID: u16 = 1;

/// A connected member.
#[derive(Debug)]
pub struct Subscriber {
    device: Device,
    /// Readings that came while something else was waited for, unacknowledged.
    came: Vec<Publish>,
    /// The broker had a session of that client id.
    pub is_session_present: bool,
}

impl Subscriber {
    /// Connects to a broker on 127.0.0.1 with Clean Start 0: takes over the session of this client id, if there is one.
    ///
    /// # Errors
    /// It does not let us in.
    pub fn resume(port: u16, client_id: &str) -> anyhow::Result<Self> {
        let (device, is_session_present) = Device::resume(port, client_id)?;
        Ok(Self { device, came: Vec::new(), is_session_present })
    }

    /// Subscribes with QoS 1.
    ///
    /// # Errors
    /// The broker does not grant it.
    pub fn subscribe(&mut self, filter: &str) -> anyhow::Result<()> {
        let mut subscribe = Subscribe::new(Filter::new(filter, QoS::AtLeastOnce), None);
        subscribe.pkid = PACKET_ID;
        self.device.send(&Packet::Subscribe(subscribe))?;
        let answer = self.answer()?;
        ensure!(matches!(answer, Packet::SubAck(_)), "not SUBACK: {answer:?}");
        Ok(())
    }

    /// Unsubscribes, and waits for the broker's word.
    ///
    /// # Errors
    /// It does not come.
    pub fn unsubscribe(&mut self, filter: &str) -> anyhow::Result<()> {
        let mut unsubscribe = Unsubscribe::new(filter, None);
        unsubscribe.pkid = PACKET_ID;
        self.device.send(&Packet::Unsubscribe(unsubscribe))?;
        let answer = self.answer()?;
        ensure!(matches!(answer, Packet::UnsubAck(_)), "not UNSUBACK: {answer:?}");
        Ok(())
    }

    /// Acknowledges what has come and what comes, until nothing has come for so long. Gives the payloads.
    ///
    /// # Errors
    /// The connection broke.
    pub fn take_until_quiet(&mut self, quiet: Duration) -> anyhow::Result<Vec<String>> {
        let mut taken = Vec::new();
        for publish in std::mem::take(&mut self.came) {
            taken.push(self.take(&publish)?);
        }
        while let Some(packet) = self.device.receive_within(quiet)? {
            let Packet::Publish(publish) = packet else { bail!("not PUBLISH: {packet:?}") };
            taken.push(self.take(&publish)?);
        }
        Ok(taken)
    }

    /// Ends the session, not only the connection.
    ///
    /// # Errors
    /// The connection broke.
    pub fn end(mut self) -> anyhow::Result<()> {
        let mut disconnect = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
        disconnect.properties = Some(DisconnectProperties {
            session_expiry_interval: Some(0),
            reason_string: None,
            user_properties: Vec::new(),
            server_reference: None,
        });
        self.device.send(&Packet::Disconnect(disconnect))
    }

    fn take(&mut self, publish: &Publish) -> anyhow::Result<String> {
        self.device.send(&Packet::PubAck(PubAck::new(publish.pkid, None)))?;
        Ok(String::from_utf8(publish.payload.to_vec())?)
    }

    /// The next packet that is no reading.
    fn answer(&mut self) -> anyhow::Result<Packet> {
        loop {
            match self.device.receive()? {
                Packet::Publish(publish) => self.came.push(publish),
                other => return Ok(other),
            }
        }
    }
}
