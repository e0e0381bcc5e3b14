//! The data path of one shard, without waiting: bytes from MQTT in, records staged; delivery reports in, acks out.
//!
//! Owns the session, the tracker and what is in flight. Its driver owns the connection and the timing; the lane owns the sink.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rdkafka::error::RDKafkaErrorCode;
use sluice_coordinator::model::{Offset, TopicPartition};
use tokio::sync::Notify;

use super::{
    core::Place,
    headers,
    limits::Total,
    routes::{Route, Routes},
    slots::Slot,
};
use crate::{
    config::{InFlight, Manifest},
    pipeline::{
        sink::{Sink, Staged, TopicNo},
        source::session::{Event, Properties, Reading, Seq, Session, SessionError},
        tracker::Tracker,
    },
    registry::{State, Task},
};

/// A reading that has waited for Kafka this long says that Kafka is away, not that it is busy.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// What is remembered of a reading until everything before it is delivered too.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) route: Rc<Route>,
    pub(super) properties: Option<Box<Properties>>,
    pub(super) received_at_ms: u64,
    pub(super) qos: u8,
    pub(super) is_retained: bool,
    pub(super) is_duplicate: bool,
}

/// Why a reading is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeadLetter {
    pub(super) reason: String,
    /// The Kafka topic that refused it; none: it had no route.
    pub(super) kafka_topic: Option<String>,
}

/// A record that was not taken or not delivered, whole.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) slot: Slot,
    pub(super) seq: u64,
    pub(super) code: RDKafkaErrorCode,
    pub(super) was_alone: bool,
    pub(super) key: Rc<[u8]>,
    pub(super) payload: Bytes,
}

/// Why a shard cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    /// What is wrong and what to do.
    pub(super) message: String,
    /// What is wrong may be mended without a word to Sluice, so that trying again makes sense.
    pub(super) may_pass: bool,
}

/// One shard's data path.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) slot: Slot,
    pub(super) task: Arc<Task>,
    pub(super) place: Rc<Place>,
    pub(super) manifest: Arc<Manifest>,
    pub(super) session: Session,
    pub(super) tracker: Tracker<Origin>,
    /// Readings whose record on the way is the one for the dead-letter topic, by number, until that is delivered or they are given back.
    pub(super) dead_letters: BTreeMap<u64, DeadLetter>,
    routes: Rc<RefCell<Routes>>,
    /// Headers may be made of a reading's properties: only then are they copied.
    keeps_properties: bool,
    /// What is left of the last read: the start of a packet, or whole packets when [`holds_back`](Self::holds_back).
    pub(super) rest: BytesMut,
    /// Whole packets are left for when the window has room again: what a crash may repeat stays within it, whatever the broker does.
    pub(super) holds_back: bool,
    /// To be written to the broker.
    pub(super) out: BytesMut,
    /// What its slot has handed over and Kafka has not reported.
    in_flight: Rc<Total>,
    /// Above the watermark, and given back already.
    given_back: u64,
    pub(super) broken: Option<Broken>,
    /// Reports of this round concern the shard.
    pub(super) is_touched: bool,
    /// The broker has accepted the connection.
    pub(super) is_serving: bool,
    /// Its state while Kafka keeps up: failed where the broker has granted no filter, though what it had queued may still come.
    pub(super) at_rest: State,
    /// Since when its socket is not read, because something is full or the task stops.
    pub(super) unread_since: Option<Instant>,
    /// What the broker does not grant.
    pub(super) notes: Vec<String>,
    has_moved: Cell<bool>,
    /// Wakes the driver.
    pub(super) wake: Rc<Notify>,
    /// One past the highest offset, by topic number and partition.
    offsets: Vec<Vec<i64>>,
    has_new_offsets: bool,
}

impl Shard {
    pub(super) fn new(
        slot: Slot,
        task: Arc<Task>,
        manifest: Arc<Manifest>,
        session: Session,
        in_flight: Rc<Total>,
        place: Rc<Place>,
    ) -> Self {
        let routes = place.routes(&manifest);
        let keeps_properties =
            manifest.dead_letter_topic.is_some() || manifest.metadata_headers.iter().any(|header| header.needs_v5());
        Self {
            slot,
            task,
            place,
            manifest,
            session,
            tracker: Tracker::default(),
            dead_letters: BTreeMap::new(),
            routes,
            keeps_properties,
            rest: BytesMut::new(),
            holds_back: false,
            out: BytesMut::new(),
            in_flight,
            given_back: 0,
            broken: None,
            is_touched: false,
            is_serving: false,
            at_rest: State::Running,
            unread_since: None,
            notes: Vec::new(),
            has_moved: Cell::new(false),
            wake: Rc::default(),
            offsets: Vec::new(),
            has_new_offsets: false,
        }
    }

    /// Takes everything whole out of `input`, as far as the window has room: readings are staged, other events pushed to `events`.
    /// Once what is staged is handed over, the caller ends the round with [`count`](Self::count).
    pub(super) fn receive(
        &mut self,
        input: &mut BytesMut,
        now: Instant,
        sink: &mut Sink,
        events: &mut Vec<Event>,
    ) -> Received {
        let received_at_ms = headers::unix_ms();
        let mut received = Received::default();
        loop {
            self.holds_back = self.session.exceeds_window() && !input.is_empty();
            if self.holds_back {
                break;
            }
            match self.session.next(input, now, &mut self.out) {
                Ok(Some(Event::Reading(reading))) => {
                    received.readings += 1;
                    received.redelivered += u64::from(reading.is_duplicate);
                    self.stage(reading, received_at_ms, sink, &mut received.unroutable);
                }
                Ok(Some(event)) => {
                    let is_last = matches!(event, Event::Disconnected(_));
                    events.push(event);
                    if is_last {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    received.error = Some(error);
                    break;
                }
            }
        }
        self.tracker.end_batch(now);
        self.note_moved(received.readings > 0);
        received
    }

    /// Shows what was received, and with it what the sink has taken of that.
    pub(super) fn count(&self, received: &Received) {
        self.task.received.add(received.readings);
        self.task.redelivered.add(received.redelivered);
        self.show_load();
    }

    fn stage(&mut self, reading: Reading, received_at_ms: u64, sink: &mut Sink, unroutable: &mut Vec<Unroutable>) {
        let route = self.routes.borrow_mut().route(&reading.topic, sink);
        let origin = Origin {
            route: Rc::clone(&route),
            properties: (self.keeps_properties && !reading.properties.is_empty())
                .then(|| Box::new(reading.properties.detached())),
            received_at_ms,
            qos: reading.qos.number(),
            is_retained: reading.is_retained,
            is_duplicate: reading.is_duplicate,
        };
        let headers = headers::of_reading(&origin, &self.manifest.metadata_headers);
        let seq = self.tracker.receive(origin);
        // The one assumption behind every ack: better to die than to acknowledge another reading.
        assert_eq!(seq, reading.seq.0, "session and tracker count alike");
        match &route.topic {
            Ok(topic) => {
                let partition = sink.partition_of(*topic, &route.key);
                let opaque = self.slot.opaque(seq);
                sink.stage(
                    *topic,
                    partition,
                    Staged { opaque, key: Rc::clone(&route.key), payload: reading.payload, headers },
                );
            }
            Err(why) => unroutable.push(Unroutable { seq, why: why.clone(), payload: reading.payload }),
        }
    }

    /// Kafka has a record of reading `seq`. The caller ends the round with [`settle`](Self::settle).
    pub(super) fn delivered(&mut self, seq: u64, topic: TopicNo, partition: i32, offset: i64) {
        if !self.tracker.deliver(seq) {
            return;
        }
        if self.dead_letters.remove(&seq).is_some() {
            self.task.dead_lettered.add(1);
        } else {
            self.task.delivered.add(1);
        }
        self.note_offset(topic, partition, offset);
    }

    /// After a round of reports: moves the watermark, writes the acks that it allows into `out`.
    pub(super) fn settle(&mut self, now: Instant) {
        let (latency, before) = (&self.task.latency, self.tracker.watermark());
        let watermark = self.tracker.advance(|received_at, count| {
            let micros = now.saturating_duration_since(received_at).as_micros();
            latency.record(u64::try_from(micros).unwrap_or(u64::MAX), count);
        });
        self.note_moved(watermark > before);
        self.task.acked.add(self.session.ack_up_to(Seq(watermark), &mut self.out));
        self.show_load();
    }

    /// Gives everything that is not below the watermark back to the broker, which sends it again.
    pub(super) fn abandon(&mut self) {
        self.session.abandon();
        self.dead_letters.clear();
        let given_back = std::mem::take(&mut self.given_back);
        self.task.returned.add(self.tracker.abandon().saturating_sub(given_back));
        // Until Kafka reports it, it fills the lane; the task's it is no more.
        self.task.in_flight.set(0);
        self.task.in_flight_bytes.set(0);
        self.forget_rest();
    }

    /// A reading will not be handed over again: it is the broker's, which sends it again once the connection is closed.
    pub(super) fn give_back(&mut self) {
        self.given_back += 1;
        self.task.returned.add(1);
        self.show_load();
    }

    /// What was read of a connection that is no more.
    pub(super) fn forget_rest(&mut self) {
        self.rest.clear();
        self.holds_back = false;
    }

    /// The shard may read on, as far as it alone is concerned.
    pub(super) fn has_room(&self, limits: &InFlight) -> bool {
        !self.session.exceeds_window()
            && self.in_flight.has_room_in_shard(limits)
            && (self.tracker.kept() as u64) < limits.shard_readings.get()
    }

    /// Stops the shard, once.
    pub(super) fn fail(&mut self, message: String, may_pass: bool) {
        if self.broken.is_none() {
            self.broken = Some(Broken { message, may_pass });
        }
        self.wake.notify_one();
    }

    /// Whether a reading is under way, or has come or been delivered since the last question: any of it may make the broker send more.
    /// Not whether something is to be written: a ping would keep a silence from ever being long enough.
    pub(super) fn is_busy(&self) -> bool {
        self.has_moved.take() || self.tracker.undelivered() > 0 || !self.rest.is_empty()
    }

    /// Stops the shard for a reading that can neither be delivered nor become a dead letter.
    pub(super) fn fail_at_reading(&mut self, message: String, may_pass: bool) {
        self.give_back();
        self.fail(message, may_pass);
    }

    fn note_moved(&self, has_moved: bool) {
        self.has_moved.set(self.has_moved.get() || has_moved);
    }

    /// Nothing is in flight, and every ack has been written.
    pub(super) fn is_idle(&self) -> bool {
        self.tracker.undelivered() == 0 && self.out.is_empty()
    }

    /// Shows what has a clock in it: the age of the oldest reading not yet acknowledged, what that says of the state, new offsets.
    /// `full`: why the lane is full, if it is.
    pub(super) fn show(&mut self, now: Instant, full: Option<&str>) {
        let since = |then: Option<Instant>| then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let age = since(self.tracker.oldest());
        self.task.oldest_unacked_ms.set(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        if self.is_serving && self.broken.is_none() {
            // Who has nothing in flight may be kept from reading by those who have.
            let full = full.filter(|_| age < SLOW_AFTER);
            self.show_state(age.max(since(self.unread_since)), full);
        }
        if !std::mem::take(&mut self.has_new_offsets) {
            return;
        }
        let sink = self.place.sink.borrow();
        let known = self.offsets.iter().enumerate().flat_map(|(number, partitions)| {
            let topic = sink.topic_name(TopicNo::from_index(number)).to_string();
            let known = (0..).zip(partitions).filter(|(_, next)| **next > 0);
            known.map(move |(partition, next)| (TopicPartition { topic: topic.clone(), partition }, Offset(*next)))
        });
        self.task.raise_next_offsets(known);
    }

    fn show_state(&self, waiting: Duration, full: Option<&str>) {
        let is_slow = waiting >= SLOW_AFTER;
        let (state, is_told) = match self.task.status().state {
            // One that is served has not failed for good.
            State::Running | State::BackPressure | State::Failed if is_slow => (State::BackPressure, true),
            State::BackPressure => (self.at_rest, false),
            // Not being read is what a task that stops is about.
            State::Draining => (State::Draining, is_slow && self.tracker.undelivered() > 0),
            _ => return,
        };
        let message = if is_told {
            let sink = self.place.sink.borrow();
            let trouble = sink.trouble().unwrap_or("Kafka acknowledges slowly or not at all");
            full.map_or_else(|| format!("waiting for Kafka: {trouble}"), str::to_owned)
        } else {
            self.notes.join("; ")
        };
        self.task.set_status(state, message);
    }

    /// Goes on with another sink. Topic numbers are a sink's own, so nothing that holds one is kept.
    pub(super) fn move_to(&mut self, place: Rc<Place>) {
        self.routes = place.routes(&self.manifest);
        self.place = place;
        self.offsets.clear();
        self.has_new_offsets = false;
    }

    fn note_offset(&mut self, topic: TopicNo, partition: i32, offset: i64) {
        let Ok(partition) = usize::try_from(partition) else { return };
        if self.offsets.len() <= topic.index() {
            self.offsets.resize_with(topic.index() + 1, Vec::new);
        }
        let partitions = &mut self.offsets[topic.index()];
        if partitions.len() <= partition {
            partitions.resize(partition + 1, 0);
        }
        partitions[partition] = partitions[partition].max(offset + 1);
        self.has_new_offsets = true;
    }

    /// Shows what the sink holds of this shard. Counted there, and not by what the session received and the tracker saw delivered: where
    /// the two ends of the path differ, the ledger does not add up.
    pub(super) fn show_load(&self) {
        self.task.in_flight.set(self.in_flight.readings());
        self.task.in_flight_bytes.set(self.in_flight.bytes());
    }
}

/// What came of a read.
#[derive(Debug, Default)]
pub(super) struct Received {
    readings: u64,
    redelivered: u64,
    /// Readings that have no route, for the lane to deal with.
    pub(super) unroutable: Vec<Unroutable>,
    /// Why the connection cannot go on.
    pub(super) error: Option<SessionError>,
}

/// A reading that the mapping sends nowhere.
#[derive(Debug)]
pub(super) struct Unroutable {
    pub(super) seq: u64,
    pub(super) why: String,
    pub(super) payload: Bytes,
}
