//! A shard's persistent MQTT session as a pure state machine: bytes in, events and bytes out, time as an argument.
//!
//! Promises: acks leave in receive order and never before delivery; a `QoS` 2 reading that is held is not handed out twice; what
//! was received on an earlier connection is never acknowledged on a later one (`QoS` 1), as the broker sends it again.
//! It never refuses a reading to the broker and never asks for a clean session, but to end it.
//!
//! A session outlives its connections. `out` is the write buffer of the present connection: nothing else writes to it, and
//! what an old connection left in it is thrown away by [`Session::connect`].

mod error;
mod event;
mod frame;
mod granted;
mod held;
mod keep_alive;
mod packet;
mod properties;
mod publish;
mod reminder;
mod ring;
mod settings;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

pub use self::{
    error::{Refused, SessionError, reason_name},
    event::{Disconnected, Ending, Event, Granted, Reading, RefusedFilter, Seq, Subscribed},
    properties::{Properties, Property},
    settings::{FILTERS_MAX, Qos, STRING_BYTES_MAX, Settings, SettingsError, Version},
};
use self::{
    held::{Held, Release},
    keep_alive::KeepAlive,
    packet::{Connack, Packet},
    publish::Publish,
    ring::{Kind, Owed, Ring},
    subscriptions::{Standing, Subscriptions},
};

/// A shard's session.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    phase: Phase,
    subscriptions: Subscriptions,
    owed: Ring,
    held: Held,
    /// Number of the next reading.
    next_seq: u64,
    /// Every reading below is delivered.
    watermark: u64,
    expects_session: bool,
    is_window_noted: bool,
    pending: Option<Event>,
}

#[derive(Debug)]
enum Phase {
    Closed,
    /// CONNECT is written.
    Connecting {
        since: Instant,
    },
    Open(KeepAlive),
}

impl Session {
    /// A session that has not connected yet. `settings.filters` are taken for what the session at the broker may be subscribed to:
    /// to connect with others, call [`Session::change_filters`] before [`Session::connect`].
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Self {
            phase: Phase::Closed,
            subscriptions: Subscriptions::new(settings.version, settings.qos, settings.filters.clone()),
            owed: Ring::default(),
            held: Held::default(),
            next_seq: 0,
            watermark: 0,
            expects_session: settings.expects_session,
            is_window_noted: false,
            pending: None,
            settings,
        })
    }

    /// Starts on a new network connection: writes CONNECT.
    pub fn connect(&mut self, now: Instant, out: &mut BytesMut) -> Result<(), SessionError> {
        self.connection_lost();
        out.clear();
        self.is_window_noted = false;
        self.phase = Phase::Connecting { since: now };
        packet::write_connect(&self.settings, out)
    }

    /// The network connection is gone: what it owed is owed no more, as the broker sends it again [MQTT-4.4.0-1].
    pub fn connection_lost(&mut self) {
        self.phase = Phase::Closed;
        self.owed.clear();
        self.subscriptions.connection_lost();
        self.pending = None;
    }

    /// Takes the next event out of `input`; none: more bytes are needed. After an error or [`Event::Disconnected`] the
    /// connection is of no more use.
    #[inline]
    pub fn next(
        &mut self,
        input: &mut BytesMut,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, SessionError> {
        let next = self.read(input, now, out);
        if next.is_err() {
            self.connection_lost();
        }
        next
    }

    /// Every reading below `watermark` is delivered: writes the acks that this allows, in receive order. Returns how many readings
    /// were acknowledged for the first time. On a closed connection it only remembers.
    pub fn ack_up_to(&mut self, watermark: Seq, out: &mut BytesMut) -> u64 {
        self.watermark = self.watermark.max(watermark.0.min(self.next_seq));
        self.write_due(out)
    }

    /// Forgets what was received and lies at or above the watermark, because it will not be delivered: the connection is closed, and on the next
    /// one the broker sends it again. Call it before the watermark passes what is abandoned. Readings go on from [`Session::next_seq`].
    pub fn abandon(&mut self) {
        self.connection_lost();
        self.held.forget_from(self.watermark);
        // Nothing below is held or owed any more, so that the watermark may pass it.
        self.watermark = self.next_seq;
    }

    /// From the next connection on the session is subscribed to `filters` and nothing else: [`Event::Subscribed`] follows if there are
    /// any, then [`Event::Unsubscribed`] if there was another.
    pub fn change_filters(&mut self, filters: &[String]) -> Result<(), SettingsError> {
        settings::check_wanted(filters)?;
        self.subscriptions.change(filters);
        Ok(())
    }

    /// Disconnects and keeps the session.
    pub fn disconnect(&mut self, out: &mut BytesMut) {
        if !matches!(self.phase, Phase::Closed) {
            packet::write_disconnect(out);
        }
        self.connection_lost();
    }

    /// Disconnects and ends the session: the broker forgets it with all it queues.
    pub fn end(&mut self, out: &mut BytesMut) -> Ending {
        match (&self.phase, Ending::of(self.settings.version)) {
            (Phase::Open(_), Ending::Done) => {
                packet::write_disconnect_ending(out);
                self.connection_lost();
                self.held.clear();
                self.expects_session = false;
                Ending::Done
            }
            _ => {
                self.disconnect(out);
                Ending::NeedsCleanConnection
            }
        }
    }

    /// When [`Session::tick`] must be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Closed => None,
            Phase::Connecting { since } => Some(*since + self.settings.connack_within),
            Phase::Open(keep_alive) => keep_alive.deadline().into_iter().chain(self.subscriptions.deadline()).min(),
        }
    }

    /// Keeps the connection alive, and readings of shared filters coming. `is_reading`: the socket is being read; silence counts only
    /// then. Call it at the deadline, and when reading stops or starts again.
    pub fn tick(&mut self, now: Instant, out: &mut BytesMut, is_reading: bool) -> Result<(), SessionError> {
        let ticked = match &mut self.phase {
            Phase::Closed => Ok(false),
            Phase::Connecting { since } if now >= *since + self.settings.connack_within => {
                Err(SessionError::NoAnswer { what: "CONNACK", after: self.settings.connack_within })
            }
            Phase::Connecting { .. } => Ok(false),
            Phase::Open(keep_alive) => {
                let standing = Standing { is_reading, received: self.next_seq, is_acked: self.owed.len() == 0 };
                self.subscriptions.tick(now, standing, out).and_then(|()| keep_alive.tick(now, is_reading))
            }
        };
        match ticked {
            Ok(true) => packet::write_pingreq(out),
            Ok(false) => {}
            Err(_) => self.connection_lost(),
        }
        ticked.map(drop)
    }

    /// Asks the broker whether it is there. What it had sent before it answers comes before the answer.
    pub fn ask(&mut self, now: Instant, out: &mut BytesMut) {
        if let Phase::Open(keep_alive) = &mut self.phase {
            keep_alive.ask(now);
            packet::write_pingreq(out);
        }
    }

    /// When the broker was last [asked](Self::ask) on this connection, and whether it has answered.
    #[must_use]
    pub fn question(&self) -> Option<(Instant, bool)> {
        match &self.phase {
            Phase::Open(keep_alive) => keep_alive.question(),
            Phase::Closed | Phase::Connecting { .. } => None,
        }
    }

    /// What the session was made with.
    #[cfg(test)]
    fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Filters wanted now.
    #[must_use]
    pub fn filters(&self) -> &[String] {
        self.subscriptions.wanted()
    }

    /// The broker has accepted the connection and it has not ended.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// The broker has answered every SUBSCRIBE and UNSUBSCRIBE.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.subscriptions.is_settled()
    }

    /// The session at the broker is subscribed to nothing: every UNSUBSCRIBE was answered, and none refused.
    #[must_use]
    pub fn is_unsubscribed(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// The session at the broker is subscribed to `filter`, or may be: wanted or not, an UNSUBSCRIBE may be under way or refused.
    #[must_use]
    pub fn may_have(&self, filter: &str) -> bool {
        self.subscriptions.may_have(filter)
    }

    /// Number that the next reading will get; as many have been handed out.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        Seq(self.next_seq)
    }

    /// Packets of `QoS` 1 and 2 on this connection that wait for their first ack.
    #[must_use]
    pub fn unacked(&self) -> usize {
        self.owed.len()
    }

    /// Of the broker's receive window, how much is taken: unacked, and `QoS` 2 that waits for its release [MQTT-4.9].
    #[must_use]
    pub fn window_used(&self) -> usize {
        self.owed.len() + self.held.recorded()
    }

    /// The broker has sent more than the receive maximum allows [MQTT-3.3.4-9], as Mosquitto 2.0.11 does once readings have queued up
    /// behind a full window. Only deliveries end this, so whoever stops reading until then waits for nothing that the broker must say.
    #[must_use]
    pub fn exceeds_window(&self) -> bool {
        self.owed.len() > usize::from(self.settings.receive_maximum.get())
    }

    /// `QoS` 2 packet ids between PUBLISH and PUBREL, those of earlier connections included.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.held.len()
    }

    fn read(&mut self, input: &mut BytesMut, now: Instant, out: &mut BytesMut) -> Result<Option<Event>, SessionError> {
        if matches!(self.phase, Phase::Closed) {
            return Err(SessionError::NotConnected);
        }
        if let Some(event) = self.pending.take() {
            return Ok(Some(event));
        }
        while let Some(frame) = frame::frame(input, self.settings.packet_bytes_max)? {
            let mut packet = input.split_to(frame.bytes).freeze();
            let first = packet[0];
            packet.advance(frame.header_bytes);
            let event = match &mut self.phase {
                Phase::Open(keep_alive) => {
                    keep_alive.heard(now);
                    if first >> 4 == 3 {
                        let publish = publish::read(first & 0x0F, packet, self.settings.version)?;
                        if let Some(reading) = self.receive(publish, out)? {
                            return Ok(Some(Event::Reading(reading)));
                        }
                        continue;
                    } else {
                        self.control(first, packet, now, out)?
                    }
                }
                Phase::Connecting { .. } => self.answer_to_connect(first, packet, now, out)?,
                Phase::Closed => return Err(SessionError::NotConnected),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    // Inlined for the same reason as `publish::read`.
    #[inline(always)]
    fn receive(&mut self, publish: Publish, out: &mut BytesMut) -> Result<Option<Reading>, SessionError> {
        let seq = self.next_seq;
        if publish.qos != Qos::AtMostOnce {
            self.check_owed()?;
        }
        match publish.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.owed.push(Owed { seq, packet_id: publish.packet_id, kind: Kind::Puback }),
            Qos::ExactlyOnce => {
                let fingerprint = held::fingerprint(&publish.topic, &publish.payload);
                let repeated = self.held.receive(publish.packet_id, seq, fingerprint);
                self.owed.push(Owed { seq: repeated.unwrap_or(seq), packet_id: publish.packet_id, kind: Kind::Pubrec });
                if repeated.is_some() {
                    // Its reading may be delivered already, and no later delivery need come to set the ack free.
                    self.write_due(out);
                    self.note_window();
                    return Ok(None);
                }
            }
        }
        self.note_window();
        self.next_seq += 1;
        Ok(Some(Reading {
            seq: Seq(seq),
            topic: publish.topic,
            payload: publish.payload,
            properties: publish.properties,
            qos: publish.qos,
            is_retained: publish.is_retained,
            is_duplicate: publish.is_duplicate,
        }))
    }

    /// A broker that exceeds the window is borne with, up to a bound: only its own promise is broken. Asked before anything of a packet
    /// is taken in: a receipt kept of a reading that was never handed out would swallow that reading on the next connection.
    fn check_owed(&self) -> Result<(), SessionError> {
        if self.owed.len() >= ring::OWED_MAX {
            return Err(SessionError::protocol("readings without end that wait for no ack [MQTT-3.3.4-9]"));
        }
        Ok(())
    }

    fn note_window(&mut self) {
        let is_exceeded = self.window_used() > usize::from(self.settings.receive_maximum.get());
        if is_exceeded && !self.is_window_noted && self.settings.version == Version::V5 {
            self.is_window_noted = true;
            self.pending = Some(Event::Noted(format!(
                "the MQTT broker sends more than the {} unacknowledged readings asked for [MQTT-3.3.4-9]",
                self.settings.receive_maximum
            )));
        }
    }

    fn answer_to_connect(
        &mut self,
        first: u8,
        packet: Bytes,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, SessionError> {
        match packet::read(first, packet, self.settings.version)? {
            Packet::Connack(connack) => self.connected(connack, now, out).map(Some),
            Packet::Disconnect { code, properties } => Ok(Some(self.disconnected(code, properties))),
            _ => Err(SessionError::protocol("another packet before CONNACK [MQTT-3.2.0-1]")),
        }
    }

    fn connected(&mut self, connack: Connack, now: Instant, out: &mut BytesMut) -> Result<Event, SessionError> {
        let expects_session = self.expects_session && !self.settings.ends_session;
        let granted = granted::check(connack, &self.settings, self.subscriptions.wanted(), expects_session)?;
        if !granted.is_session_present {
            // The broker knows none of these ids [MQTT-3.2.2-4].
            self.held.clear();
        }
        self.phase = Phase::Open(KeepAlive::new(granted.keep_alive, now));
        if !self.settings.ends_session {
            self.expects_session = true;
            self.subscriptions.connected(granted.is_session_present, self.next_seq, now, out)?;
        }
        Ok(Event::Connected(Box::new(granted)))
    }

    fn control(
        &mut self,
        first: u8,
        packet: Bytes,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, SessionError> {
        match packet::read(first, packet, self.settings.version)? {
            Packet::Pubrel { packet_id } => {
                self.check_owed()?;
                self.release(packet_id, out);
                Ok(None)
            }
            Packet::Pingresp => {
                if let Phase::Open(keep_alive) = &mut self.phase {
                    keep_alive.answered();
                }
                Ok(None)
            }
            Packet::Suback(acks) => self.subscriptions.suback(&acks, now, out),
            Packet::Unsuback(acks) => self.subscriptions.unsuback(&acks, now),
            Packet::Disconnect { code, properties } => Ok(Some(self.disconnected(code, properties))),
            Packet::Connack(_) => Err(SessionError::protocol("a second CONNACK [MQTT-3.2.0-2]")),
        }
    }

    fn disconnected(
        &mut self,
        code: u8,
        properties: Option<rumqttc::v5::mqttbytes::v5::DisconnectProperties>,
    ) -> Event {
        let (reason, server_reference) =
            properties.map(|properties| (properties.reason_string, properties.server_reference)).unwrap_or_default();
        let disconnected = Disconnected { code, reason, server_reference };
        self.connection_lost();
        if disconnected.is_taken_over() {
            // Another connection goes on with these ids: what is remembered of them here is no longer true. Repeating is the lesser error.
            self.held.clear();
        }
        Event::Disconnected(Box::new(disconnected))
    }

    fn release(&mut self, packet_id: u16, out: &mut BytesMut) {
        match self.held.release(packet_id, self.watermark) {
            Release::Released => packet::write_ack(0x70, packet_id, out),
            Release::Unknown => packet::write_pubcomp_unknown(self.settings.version, packet_id, out),
            // PUBCOMP frees the id for a new reading, so it is an ack like the others: after delivery.
            Release::After { seq } => self.owed.push(Owed { seq, packet_id, kind: Kind::Pubcomp }),
        }
    }

    fn write_due(&mut self, out: &mut BytesMut) -> u64 {
        let mut count = 0;
        while let Some(owed) = self.owed.pop_due(self.watermark) {
            match owed.kind {
                Kind::Puback => {
                    packet::write_ack(0x40, owed.packet_id, out);
                    count += 1;
                }
                Kind::Pubrec => {
                    if let Some(is_first) = self.held.record(owed.packet_id, owed.seq) {
                        packet::write_ack(0x50, owed.packet_id, out);
                        count += u64::from(is_first);
                    }
                }
                Kind::Pubcomp => self.release(owed.packet_id, out),
            }
        }
        count
    }
}
