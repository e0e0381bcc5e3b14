//! One shard's task on a node: drives the product's `Session`, `Tracker`, `Claim`, `Serving` and `Backoff` over a connection, as the
//! lane's driver does, and hands readings to Kafka. The path between them, which the product goes with librdkafka, is the simulation's own.

mod leaving;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use sluice_coordinator::{
    attach::Told,
    model::{Offset, Session as Recorded, State, TopicPartition},
};
use sluice_node::{
    lane::{
        course::{End, Purpose, Serving, Stop},
        recorded,
    },
    pipeline::{
        source::{
            backoff::Backoff,
            session::{Event, Seq, Session, Settings},
        },
        tracker::Tracker,
    },
    registry::{State as Status, Task as Meters},
    task::{
        claim::{Claim, Standing},
        desired::{Background, Desired},
    },
};

use crate::{
    around::Around,
    broker::ConnectionNo,
    fact::{Fact, Peer},
    kafka::{Id, ProducerNo, Report},
    mutant::Mutant,
    setup::Ms,
};

/// How long one try to reach the broker may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Task {
    /// Of the table's entry, and of the records' opaque.
    pub(crate) number: u64,
    pub(crate) peer: Peer,
    pub(crate) meters: Arc<Meters>,
    pub(crate) stop: Option<Stop>,
    /// The coordinator should hear of it soon.
    pub(crate) has_news: bool,
    claim: Claim,
    desired: Desired,
    /// As the coordinator is told before anything is asked of the broker.
    before: Recorded,
    wanted: Vec<String>,
    group: String,
    settings: Settings,
    session: Session,
    tracker: Tracker<Id>,
    input: BytesMut,
    out: BytesMut,
    phase: Phase,
    attempt: usize,
    backoff: Backoff,
    is_serving: bool,
    was_reading: bool,
    accepted_at: Option<Ms>,
    last_moved: Instant,
    has_moved: bool,
}

#[derive(Debug)]
enum Phase {
    /// The coordinator is being told of the session.
    Recording,
    Asking {
        taken_over_at: Option<Instant>,
    },
    Connecting {
        until: Ms,
    },
    Serving(ConnectionNo),
    Waiting {
        until: Ms,
        taken_over_at: Option<Instant>,
    },
    /// MQTT 3.1.1 ends a session by a clean connection.
    AskingClean,
    Cleaning {
        connection: ConnectionNo,
        session: Box<Session>,
        until: Ms,
    },
    Ended,
}

enum Close {
    Lost { is_retryable: bool },
    Ended(End),
    Cleans,
}

/// What a task needs of its node in a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) lease: Told,
    pub(crate) part: &'a State,
    pub(crate) producer: ProducerNo,
}

impl Task {
    /// Second: whether the coordinator must be told first.
    pub(crate) fn new(
        number: u64,
        peer: Peer,
        claim: Claim,
        desired: Desired,
        background: &Background,
        meters: Arc<Meters>,
        around: &Around,
    ) -> (Self, bool) {
        let spec = &background.spec;
        let group = spec.source.share_group.clone().unwrap_or_default();
        let subscription = |filter: &String| format!("$share/{group}/{filter}");
        let wanted = recorded::wanted(desired.purpose, spec.filters.clone());
        let before = recorded::before(background.session.as_ref(), wanted.clone(), desired.revision);
        let is_known = background.session.as_ref() == Some(&before);
        let had = background.session.as_ref().map_or_else(|| wanted.clone(), |session| session.filters.clone());
        let settings = Settings {
            version: around.setup.version,
            client_id: format!("{}-{}", spec.source.client_id_prefix, claim.shard.index),
            username: None,
            password: None,
            connack_within: CONNECT_TIMEOUT,
            keep_alive: around.setup.keep_alive,
            receive_maximum: around.setup.receive_maximum,
            qos: around.setup.qos,
            filters: had.iter().map(subscription).collect(),
            packet_bytes_max: 1 << 16,
            expects_session: background.session.as_ref().is_some_and(|session| session.is_open),
            ends_session: false,
        };
        let mut session = Session::new(settings.clone()).expect("settings that MQTT can express");
        let filters: Vec<_> = wanted.iter().map(subscription).collect();
        session.change_filters(&filters).expect("filters that MQTT can express");
        meters.set_session(Some(before.clone()));
        let task = Self {
            number,
            peer,
            meters,
            stop: None,
            has_news: false,
            claim,
            desired,
            before,
            wanted,
            group,
            settings,
            session,
            tracker: Tracker::default(),
            input: BytesMut::new(),
            out: BytesMut::new(),
            phase: if is_known { Phase::Asking { taken_over_at: None } } else { Phase::Recording },
            attempt: 0,
            backoff: Backoff::default(),
            is_serving: false,
            was_reading: true,
            accepted_at: None,
            last_moved: around.instant(),
            has_moved: false,
        };
        (task, !is_known)
    }

    /// What the coordinator had to be told first is in the log, or not.
    pub(crate) fn first_word(&mut self, is_recorded: bool) -> Option<End> {
        if !matches!(self.phase, Phase::Recording) {
            return None;
        }
        if is_recorded {
            self.phase = Phase::Asking { taken_over_at: None };
            return None;
        }
        self.phase = Phase::Ended;
        self.meters.set_status(Status::Failed, "");
        Some(End::Failed { may_pass: true })
    }

    /// Kafka has a record. The caller ends the round with [`settle`](Self::settle).
    pub(crate) fn delivered(&mut self, report: &Report) {
        if self.tracker.deliver(report.opaque.1) {
            self.meters.delivered.add(1);
            let at = TopicPartition { topic: "readings".to_owned(), partition: report.partition };
            self.meters.raise_next_offsets(std::iter::once((at, Offset(report.offset + 1))));
        }
    }

    pub(crate) fn settle(&mut self) {
        let before = self.tracker.watermark();
        let watermark = self.tracker.advance(|_, _| ());
        self.has_moved |= watermark > before;
        self.meters.acked.add(self.session.ack_up_to(Seq(watermark), &mut self.out));
        self.meters.in_flight.set(self.tracker.undelivered());
    }

    /// The producer has failed for good: what was in flight goes back to the broker.
    pub(crate) fn producer_died(&mut self, around: &mut Around) {
        let (connection, unacked) = (self.connection(), self.session.unacked());
        self.abandon();
        if let Some(connection) = connection {
            around.facts.push(Fact::Left { unacked });
            around.mqtt.close(connection, around.now);
            self.wait(true, None, around);
        }
    }

    /// The process is gone.
    pub(crate) fn killed(&self, around: &mut Around) {
        let Some(connection) = self.connection() else { return };
        around.facts.push(Fact::Left { unacked: self.session.unacked() });
        // A process that dies closes its sockets; a machine that dies says nothing.
        let after = if around.chance.one_in(3) { 6_000 } else { around.chance.below(30) };
        around.mqtt.close(connection, around.now + after);
    }

    /// The task's connection may be lost, its end may come; some: it has ended.
    pub(crate) fn step(&mut self, here: Surroundings<'_>, around: &mut Around) -> Option<End> {
        let end = self.go_on(here, around)?;
        self.abandon();
        match end {
            End::Stopped { .. } => self.meters.set_status(Status::Stopped, ""),
            End::Retired => {
                self.meters.set_session(None);
                self.meters.set_status(Status::Retired, "");
            }
            End::Failed { .. } => {}
        }
        self.phase = Phase::Ended;
        Some(end)
    }

    fn go_on(&mut self, here: Surroundings<'_>, around: &mut Around) -> Option<End> {
        match &self.phase {
            Phase::Recording | Phase::Ended => None,
            Phase::Asking { taken_over_at } => {
                let taken_over_at = *taken_over_at;
                match self.standing(here, taken_over_at, around) {
                    Standing::NotMine => Some(End::Stopped { is_clean: self.is_idle() }),
                    Standing::Waits => None,
                    Standing::MayConnect => {
                        let slow = if around.chance.one_in(10) { 500 } else { 20 };
                        self.phase = Phase::Connecting { until: around.now + around.chance.below(slow) };
                        None
                    }
                }
            }
            Phase::Connecting { until } => {
                if self.stop.is_some() {
                    return Some(End::Stopped { is_clean: self.is_idle() });
                }
                if around.now >= *until { self.connect(here, around) } else { None }
            }
            Phase::Serving(connection) => {
                let connection = *connection;
                match self.serve(connection, here.producer, around)? {
                    Close::Ended(end) => Some(end),
                    Close::Cleans => {
                        self.phase = Phase::AskingClean;
                        None
                    }
                    Close::Lost { is_retryable } => self.lost(connection, is_retryable, around),
                }
            }
            Phase::Waiting { until, taken_over_at } => {
                if around.now >= *until || self.stop.is_some() {
                    self.phase = Phase::Asking { taken_over_at: *taken_over_at };
                }
                None
            }
            Phase::AskingClean | Phase::Cleaning { .. } => self.clean(here, around),
        }
    }

    fn standing(&self, here: Surroundings<'_>, taken_over_at: Option<Instant>, around: &Around) -> Standing {
        if self.stop.is_some() {
            return Standing::NotMine;
        }
        match self.claim.standing(here.lease, here.part, taken_over_at, around.instant()) {
            Standing::Waits if around.is_mutant(Mutant::ConnectsUnleased) => Standing::MayConnect,
            standing => standing,
        }
    }

    fn connect(&mut self, here: Surroundings<'_>, around: &mut Around) -> Option<End> {
        self.input.clear();
        // Once more: the permit may have been taken away while the network was waited for.
        let is_permitted = self.standing(here, None, around) == Standing::MayConnect;
        let reached = is_permitted && around.net.reaches_broker(self.peer.node);
        let opened = if reached { around.mqtt.open(self.peer.clone(), around.now) } else { None };
        let Some(connection) = opened else { return self.lost(0, true, around) };
        around.facts.push(Fact::Connects { peer: self.peer.clone() });
        self.session.connect(around.instant(), &mut self.out).expect("CONNECT can be written");
        (self.last_moved, self.was_reading) = (around.instant(), true);
        self.phase = Phase::Serving(connection);
        None
    }

    fn serve(&mut self, connection: ConnectionNo, producer: ProducerNo, around: &mut Around) -> Option<Close> {
        let now = around.instant();
        let may_read = !self.session.is_connected()
            || self.stop.is_none() && !self.session.exceeds_window() && self.has_room(around.setup.shard_readings);
        // A broker is quiet only as long as it is listened to.
        let has_moved = std::mem::take(&mut self.has_moved);
        let is_busy = has_moved || self.tracker.undelivered() > 0 || !self.input.is_empty();
        if !self.was_reading || !may_read || is_busy {
            self.last_moved = now;
        }
        let serving = Serving {
            purpose: self.desired.purpose,
            stop: self.stop,
            is_serving: self.is_serving,
            is_connected: self.session.is_connected(),
            is_settled: match self.desired.purpose {
                Purpose::Retire => self.session.is_unsubscribed(),
                Purpose::Run | Purpose::Discard => self.session.is_settled(),
            },
            is_idle: self.is_idle(),
            last_moved: self.last_moved,
            question: self.session.question(),
        };
        if let Some(end) = serving.end(now) {
            return Some(self.goodbye(connection, end, around));
        }
        if serving.asks(now) {
            self.session.ask(now, &mut self.out);
        }
        let is_due = self.session.deadline().is_some_and(|deadline| deadline <= now);
        if std::mem::replace(&mut self.was_reading, may_read) != may_read || is_due {
            if let Err(error) = self.session.tick(now, &mut self.out, may_read) {
                return Some(Close::Lost { is_retryable: error.is_retryable() });
            }
            if is_due {
                // Round again, before anything is written.
                return None;
            }
        }
        self.write(connection, around);
        if !may_read || !around.net.reaches_broker(self.peer.node) {
            return None;
        }
        if !around.mqtt.read(connection, &mut self.input, around.now) {
            return Some(Close::Lost { is_retryable: true });
        }
        let close = self.receive(producer, around);
        self.write(connection, around);
        close
    }

    /// Everything whole in the input, as far as the window has room.
    fn receive(&mut self, producer: ProducerNo, around: &mut Around) -> Option<Close> {
        let now = around.instant();
        let mut close = None;
        while close.is_none() && !self.session.exceeds_window() {
            match self.session.next(&mut self.input, now, &mut self.out) {
                Ok(None) => break,
                Ok(Some(Event::Reading(reading))) => {
                    let text = std::str::from_utf8(&reading.payload).expect("a number");
                    let id: Id = text.parse().expect("a number");
                    let seq = self.tracker.receive(id);
                    assert_eq!(seq, reading.seq.0, "session and tracker count alike");
                    self.meters.received.add(1);
                    self.meters.redelivered.add(u64::from(reading.is_duplicate));
                    self.has_moved = true;
                    around.kafka.produce(producer, id, (self.number, seq), around.now, &mut around.chance);
                }
                Ok(Some(event)) => close = self.event(event, around),
                Err(error) => close = Some(Close::Lost { is_retryable: error.is_retryable() }),
            }
        }
        self.tracker.end_batch(now);
        self.meters.in_flight.set(self.tracker.undelivered());
        if around.is_mutant(Mutant::AckBeforeDelivery) {
            self.meters.acked.add(self.session.ack_up_to(self.session.next_seq(), &mut self.out));
        }
        close
    }

    fn event(&mut self, event: Event, around: &mut Around) -> Option<Close> {
        match event {
            Event::Connected(granted) => {
                self.meters.connections.add(1);
                self.meters.sessions_lost.add(u64::from(granted.is_session_lost));
                around.coverage.add("sessions lost", u64::from(granted.is_session_lost));
                self.is_serving = true;
                self.accepted_at = Some(around.now);
                self.has_news |= !self.meters.session().is_some_and(|session| session.is_open);
                let open = Recorded { is_open: true, ..self.before.clone() };
                self.meters.set_session(Some(open));
                let is_running = self.desired.purpose == Purpose::Run && self.stop.is_none();
                self.meters.set_status(if is_running { Status::Running } else { Status::Draining }, "");
            }
            Event::Subscribed(_) => self.meters.set_session(Some(self.recorded_after())),
            Event::Unsubscribed { .. } => {
                if self.desired.purpose == Purpose::Run {
                    self.meters.set_session(Some(self.recorded_after()));
                }
            }
            Event::Disconnected(disconnected) => {
                return Some(Close::Lost { is_retryable: !disconnected.is_taken_over() });
            }
            Event::Noted(_) | Event::Reading(_) => {}
        }
        None
    }

    fn recorded_after(&self) -> Recorded {
        let may_have = |filter: &str| self.session.may_have(&format!("$share/{}/{filter}", self.group));
        recorded::after(self.before.clone(), &self.wanted, may_have)
    }

    fn abandon(&mut self) {
        self.session.abandon();
        self.meters.returned.add(self.tracker.abandon());
        self.meters.in_flight.set(0);
        self.input.clear();
    }

    fn write(&mut self, connection: ConnectionNo, around: &mut Around) {
        if !self.out.is_empty() {
            around.mqtt.write(connection, &self.out.split(), around.now, &mut around.chance);
        }
    }

    fn connection(&self) -> Option<ConnectionNo> {
        match &self.phase {
            Phase::Serving(connection) | Phase::Cleaning { connection, .. } => Some(*connection),
            _ => None,
        }
    }

    fn has_room(&self, shard_readings: u64) -> bool {
        self.tracker.undelivered() < shard_readings && (self.tracker.kept() as u64) < shard_readings
    }

    /// Nothing is in flight, and every ack has been written.
    fn is_idle(&self) -> bool {
        self.tracker.undelivered() == 0 && self.out.is_empty()
    }

    /// It has a session that carries readings.
    pub(crate) fn is_carrying(&self) -> bool {
        self.is_serving && self.desired.purpose == Purpose::Run && self.session.is_settled()
    }
}
