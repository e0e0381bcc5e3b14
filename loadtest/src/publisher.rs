//! One MQTT connection that publishes its share of the plan, whatever the broker does: it connects again with the same session
//! and sends what was not acknowledged once more.
//!
//! Reads and writes whole buffers; per reading there is one encoding, no allocation, no task and no channel.

use std::{
    io::ErrorKind,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BytesMut};
use tokio::{io::Interest, net::TcpStream, time};

use crate::{
    cli::MqttUrl,
    plan::{Due, Turns},
    progress::Progress,
    reading::{Format, ReadingId},
    window::Window,
    wire::{self, Answer, Identity, Outcome, Qos, Refused},
};

/// Unsent bytes at which no further readings are encoded: the broker is slower than we are.
const OUT_BYTES_MAX: usize = 256 * 1024;
/// Readings of one turn; between turns answers are read.
const TURN_READINGS_MAX: usize = 512;
const READ_BYTES: usize = 64 * 1024;
/// CONNECT asks for a keep-alive of 60 s.
const PING_AFTER: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const RECONNECT_AFTER: Duration = Duration::from_millis(200);

/// What every publisher of a run has in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) address: MqttUrl,
    pub(crate) format: Format,
    pub(crate) qos: Qos,
    /// Give up on missing acknowledgements after so much silence.
    pub(crate) settle: Duration,
    pub(crate) progress: Arc<Progress>,
}

/// One connection's publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    identity: Identity,
    turns: Turns,
    window: Window,
    /// MQTT topics of the devices seen so far, by device.
    topics: Vec<Option<Box<str>>>,
    payload: Vec<u8>,
    acknowledged: Vec<ReadingId>,
    connections: u64,
    heard_at: Instant,
}

/// A live connection.
struct Link {
    stream: TcpStream,
    input: BytesMut,
    out: BytesMut,
    written_at: Instant,
}

impl Publisher {
    pub(crate) fn new(shared: Arc<Shared>, identity: Identity, turns: Turns, window: u16) -> Self {
        Self {
            shared,
            identity,
            turns,
            window: Window::new(window),
            topics: Vec::new(),
            payload: Vec::new(),
            acknowledged: Vec::new(),
            connections: 0,
            heard_at: Instant::now(),
        }
    }

    /// Publishes everything. Returns when all is acknowledged, or the broker has been silent for too long.
    ///
    /// # Errors
    /// The broker cannot be reached at the start, or refuses us.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        self.heard_at = Instant::now();
        loop {
            let error = match self.connect().await {
                Ok(mut link) => match self.drive(&mut link).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if self.connections == 0 || error.is::<Refused>() {
                return Err(error);
            }
            if self.has_given_up() {
                return Ok(());
            }
            time::sleep(RECONNECT_AFTER).await;
        }
    }

    async fn connect(&mut self) -> anyhow::Result<Link> {
        time::timeout(CONNECT_TIMEOUT, self.handshake()).await.context("the MQTT broker does not answer")?
    }

    async fn handshake(&mut self) -> anyhow::Result<Link> {
        let MqttUrl { host, port } = &self.shared.address;
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .with_context(|| format!("cannot reach the MQTT broker at {host}:{port}"))?;
        stream.set_nodelay(true)?;
        let mut link = Link { stream, input: BytesMut::new(), out: BytesMut::new(), written_at: Instant::now() };
        wire::connect(&self.identity, &mut link.out)?;
        loop {
            link.write()?;
            if let Some(answer) = wire::answer(&mut link.input, self.shared.qos)? {
                self.on_connected(answer, &mut link)?;
                return Ok(link);
            }
            if !link.read()? {
                link.stream.readable().await?;
            }
        }
    }

    fn on_connected(&mut self, answer: Answer, link: &mut Link) -> anyhow::Result<()> {
        let Answer::Connected { session_present, receive_maximum, is_qos_granted } = answer else {
            bail!("the MQTT broker's first word is not CONNACK");
        };
        if !is_qos_granted {
            bail!("the MQTT broker does not grant QoS {}", self.shared.qos as u8);
        }
        self.window.grant(receive_maximum);
        self.heard_at = Instant::now();
        if self.connections > 0 {
            self.shared.progress.reconnects.fetch_add(1, Relaxed);
            self.shared.progress.sessions_lost.fetch_add(u64::from(!session_present), Relaxed);
            self.send_again(session_present, &mut link.out)?;
        }
        self.connections += 1;
        Ok(())
    }

    /// Everything that is unacknowledged, in the order of the first sending [MQTT-4.4.0-1].
    fn send_again(&mut self, session_present: bool, out: &mut BytesMut) -> anyhow::Result<()> {
        for (packet_id, sent) in self.window.unacknowledged() {
            if sent.is_received {
                wire::release(packet_id, out)?;
            } else {
                self.write_publish(sent.id, sent.intended, packet_id, session_present, out);
                self.shared.progress.resent.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }

    /// The life of a connection; `Ok`: nothing is left to do.
    async fn drive(&mut self, link: &mut Link) -> anyhow::Result<()> {
        loop {
            let next = self.fill(&mut link.out);
            link.write()?;
            let has_read = link.read()?;
            self.on_answers(link)?;
            if link.out.is_empty() && self.window.is_empty() && next == Next::Never {
                wire::disconnect(&mut link.out)?;
                return link.write();
            }
            if self.has_given_up() && next == Next::Never {
                return Ok(());
            }
            if link.written_at.elapsed() > PING_AFTER {
                wire::ping(&mut link.out)?;
            }
            if !has_read && next != Next::Now {
                link.wait(self.wake_up(next)).await?;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Encodes what is due, as far as window and buffer allow.
    fn fill(&mut self, out: &mut BytesMut) -> Next {
        let shared = Arc::clone(&self.shared);
        if shared.progress.is_stopped.load(Relaxed) {
            return Next::Never;
        }
        for sent in 0..=TURN_READINGS_MAX {
            let intended = match self.turns.due(shared.progress.clock.elapsed()) {
                Due::Never => return Next::Never,
                Due::At(at) => return Next::At(at),
                Due::Now(intended) => intended,
            };
            if out.len() >= OUT_BYTES_MAX || (shared.qos != Qos::AtMostOnce && self.window.is_full()) {
                return Next::WhenAnswered;
            }
            if sent == TURN_READINGS_MAX {
                break;
            }
            let id = self.turns.take();
            let packet_id = if shared.qos == Qos::AtMostOnce { 0 } else { self.window.send(id, intended) };
            self.write_publish(id, intended, packet_id, false, out);
            shared.progress.published.fetch_add(1, Relaxed);
        }
        Next::Now
    }

    fn write_publish(&mut self, id: ReadingId, intended: Duration, packet_id: u16, is_again: bool, out: &mut BytesMut) {
        let shared = &self.shared;
        self.payload.clear();
        shared.format.write_payload(id, shared.progress.clock.unix_ns(intended), &mut self.payload);
        let device = id.device as usize;
        if self.topics.len() <= device {
            self.topics.resize(device + 1, None);
        }
        let topic = self.topics[device].get_or_insert_with(|| shared.format.topic(id.device).into_boxed_str());
        wire::publish(topic, shared.qos, packet_id, is_again, &self.payload, out);
    }

    fn on_answers(&mut self, link: &mut Link) -> anyhow::Result<()> {
        let progress = Arc::clone(&self.shared.progress);
        while let Some(answer) = wire::answer(&mut link.input, self.shared.qos)? {
            self.heard_at = Instant::now();
            match answer {
                Answer::Done { packet_id, outcome } => {
                    let Some(sent) = self.window.end(packet_id) else { continue };
                    match outcome {
                        Outcome::Refused => {
                            progress.refused.fetch_add(1, Relaxed);
                            continue;
                        }
                        Outcome::AcceptedForNobody => {
                            progress.for_nobody.fetch_add(1, Relaxed);
                            if progress.excuses_for_nobody.load(Relaxed) {
                                continue;
                            }
                        }
                        Outcome::Accepted => {}
                    }
                    self.acknowledged.push(sent.id);
                }
                Answer::Received { packet_id, had_subscriber } => {
                    progress.for_nobody.fetch_add(u64::from(!had_subscriber), Relaxed);
                    self.window.receive(packet_id);
                    wire::release(packet_id, &mut link.out)?;
                }
                Answer::Connected { .. } => bail!("the MQTT broker sent a second CONNACK"),
                Answer::Other => {}
            }
        }
        if !self.acknowledged.is_empty() {
            progress.oracle().acknowledge(&self.acknowledged);
            self.acknowledged.clear();
        }
        Ok(())
    }

    fn has_given_up(&self) -> bool {
        let is_sent = self.shared.progress.is_stopped.load(Relaxed)
            || self.turns.due(self.shared.progress.clock.elapsed()) == Due::Never;
        is_sent && self.heard_at.elapsed() > self.shared.settle
    }

    fn wake_up(&self, next: Next) -> Instant {
        let soon = Instant::now() + Duration::from_secs(1);
        match next {
            Next::At(at) => self.shared.progress.clock.instant(at).min(soon),
            Next::Now | Next::WhenAnswered | Next::Never => soon,
        }
    }
}

/// When there is more to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Now,
    At(Duration),
    WhenAnswered,
    Never,
}

impl Link {
    /// Writes as much as the socket takes.
    fn write(&mut self) -> anyhow::Result<()> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(count) => self.out.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("writing to the MQTT broker"),
            }
            self.written_at = Instant::now();
        }
        Ok(())
    }

    /// Reads what is there; false: nothing.
    fn read(&mut self) -> anyhow::Result<bool> {
        self.input.reserve(READ_BYTES);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => bail!("the MQTT broker closed the connection"),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("reading from the MQTT broker"),
        }
    }

    /// Waits for the socket or the time.
    async fn wait(&self, until: Instant) -> anyhow::Result<()> {
        let interest = if self.out.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        if let Ok(ready) = time::timeout_at(until.into(), self.stream.ready(interest)).await {
            ready.context("waiting for the MQTT broker")?;
        }
        Ok(())
    }
}
