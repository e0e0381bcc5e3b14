//! One MQTT connection that publishes for a group of sensors at `QoS` 1.
//!
//! Sensors share connections, as behind a field gateway, so that the demo spends its processor time on readings and not
//! on a thousand idle sockets. A lost connection or a refused reading ends the demo: it would spoil the account.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use rumqttc::v5::mqttbytes::{
    Error, QoS,
    v5::{Connect, ConnectReturnCode, Disconnect, DisconnectReasonCode, Packet, PubAckReason, Publish},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{pace::Pace, reading::Device, tally::Tally};

/// Readings sent and not yet acknowledged. Their acknowledgements (5 bytes each) fit any socket buffer, so neither side
/// can block the other while it writes.
const WINDOW: u16 = 500;
/// Readings between sensor and witness at which sensors wait: far below what the demo's broker and Kafka can hold
/// before they drop (see `broker.rs` and `kafka.rs`).
const BACKLOG_MAX: u64 = 40_000;
/// How often due readings are sent: often enough that waiting for it hardly shows in the latency.
const TURN: Duration = Duration::from_millis(4);
/// How long the broker may take for the last acknowledgements.
const LAST_ACKS_DEADLINE: Duration = Duration::from_secs(10);

/// Where and what a gateway publishes.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) client_id: String,
    pub(super) broker: SocketAddr,
    pub(super) devices: Vec<Device>,
    /// Readings a second, of all its devices together.
    pub(super) rate: f64,
    pub(super) tally: Arc<Mutex<Tally>>,
    /// When the demo started: time 0 of the tally.
    pub(super) start: Instant,
    /// True: no more readings.
    pub(super) stop: watch::Receiver<bool>,
}

pub(super) struct Gateway {
    config: Config,
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
    topics: Vec<Bytes>,
    next_device: usize,
    pace: Pace,
    /// By packet id less one: which reading waits for its acknowledgement.
    in_flight: Vec<Option<(Device, u64)>>,
    free_ids: Vec<u16>,
}

impl Gateway {
    /// Connects.
    pub(super) async fn connect(config: Config) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(config.broker).await?;
        stream.set_nodelay(true)?;
        let topics = config.devices.iter().map(|device| Bytes::from(device.topic())).collect();
        let mut gateway = Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            topics,
            next_device: 0,
            pace: Pace::new(config.rate, Duration::ZERO),
            in_flight: vec![None; usize::from(WINDOW)],
            free_ids: (1..=WINDOW).rev().collect(),
            config,
        };
        gateway.introduce().await?;
        Ok(gateway)
    }

    async fn introduce(&mut self) -> anyhow::Result<()> {
        // Keep-alive 0: the demo lives as long as its broker.
        let client_id = self.config.client_id.clone();
        let connect = Connect { keep_alive: 0, client_id, clean_start: true, properties: None };
        connect.write(&None, &None, &mut self.output)?;
        self.flush().await?;
        loop {
            self.receive().await?;
            match next(&mut self.input)? {
                Some(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::Success => return Ok(()),
                Some(packet) => bail!("the demo's MQTT broker refused a sensor: {packet:?}"),
                None => {}
            }
        }
    }

    /// Publishes until told to stop, then waits for the last acknowledgements and disconnects.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let mut turn = interval(TURN);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Readings are due from now on, not from when the broker was asked to let the sensors in.
        self.pace = Pace::new(self.config.rate, self.config.start.elapsed());
        let mut stop = self.config.stop.clone();
        while !*stop.borrow() {
            tokio::select! {
                _ = turn.tick() => self.publish_due().await?,
                received = self.receive() => { received?; self.take_acks()?; }
                // Also when the sender is gone: then nobody wants readings any more.
                _ = stop.changed() => break,
            }
        }
        timeout(LAST_ACKS_DEADLINE, self.last_acks())
            .await
            .context("the demo's MQTT broker left readings unacknowledged")??;
        Disconnect::new(DisconnectReasonCode::NormalDisconnection).write(&mut self.output)?;
        self.flush().await
    }

    async fn last_acks(&mut self) -> anyhow::Result<()> {
        while self.free_ids.len() < usize::from(WINDOW) {
            self.receive().await?;
            self.take_acks()?;
        }
        Ok(())
    }

    async fn publish_due(&mut self) -> anyhow::Result<()> {
        let now = self.config.start.elapsed();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or_default();
        let due = self.pace.due(now).min(self.free_ids.len());
        let mut sent = 0;
        {
            let mut tally = self.config.tally.lock().unwrap_or_else(PoisonError::into_inner);
            let room = usize::try_from(BACKLOG_MAX.saturating_sub(tally.backlog())).unwrap_or(usize::MAX);
            let mut json = String::new();
            for _ in 0..due.min(room) {
                let Some(id) = self.free_ids.pop() else { break };
                let index = self.next_device;
                self.next_device = (index + 1) % self.topics.len();
                let device = self.config.devices[index];
                let seq = tally.publish(device, now);
                device.write_reading(seq, unix_ms, &mut json);
                self.in_flight[usize::from(id) - 1] = Some((device, seq));
                let topic = self.topics[index].clone();
                let payload = Bytes::copy_from_slice(json.as_bytes());
                let publish = Publish { qos: QoS::AtLeastOnce, pkid: id, topic, payload, ..Publish::default() };
                publish.write(&mut self.output)?;
                sent += 1;
            }
        }
        self.pace.sent(sent);
        self.flush().await
    }

    fn take_acks(&mut self) -> anyhow::Result<()> {
        let mut tally = self.config.tally.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(packet) = next(&mut self.input)? {
            let Packet::PubAck(ack) = packet else { bail!("the demo's MQTT broker sent a sensor {packet:?}") };
            if !matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers) {
                bail!("the demo's MQTT broker refused a reading: {:?}", ack.reason);
            }
            let slot = usize::from(ack.pkid).checked_sub(1).and_then(|index| self.in_flight.get_mut(index));
            let Some((device, seq)) = slot.and_then(Option::take) else {
                bail!("the demo's MQTT broker acknowledged packet id {}, which is not in flight", ack.pkid);
            };
            tally.ack(device, seq);
            self.free_ids.push(ack.pkid);
        }
        Ok(())
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        // Cancel safe: what was read is in the buffer.
        match self.stream.read_buf(&mut self.input).await? {
            0 => bail!("the demo's MQTT broker closed a sensor's connection"),
            _ => Ok(()),
        }
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        Ok(())
    }
}

fn next(input: &mut BytesMut) -> Result<Option<Packet>, Error> {
    match Packet::read(input, None) {
        Ok(packet) => Ok(Some(packet)),
        Err(Error::InsufficientBytes(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
