//! What the tasks of one lane share: sinks, slots, the read buffer, the bounds. Lives on the lane's thread.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd},
    os::unix::net::UnixStream,
    rc::{Rc, Weak},
    sync::{Arc, mpsc as std_mpsc},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::Notify;

use super::{
    failures,
    limits::{Load, Total},
    routes::Routes,
    shard::{Failure, Shard},
    slots::{Slot, Slots},
};
use crate::{
    config::{InFlight, Manifest, kafka::ProducerConfig},
    pipeline::sink::{Errand, Report, Sink, SinkError, TopicNo, Volume},
};

/// Silence after which a sink with readings in flight may have lost its brokers from sight. Kafka away for a day means 8,640 such calls, each
/// of which leaves a copy of the list with librdkafka until the producer ends: less than a megabyte.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A lane's shared part.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) limits: InFlight,
    pub(super) total: Rc<Total>,
    /// Somebody who waits for the lane's total to fall may try again.
    pub(super) room: Notify,
    /// Reads of all sockets land here; between two reads it is empty.
    pub(super) input: RefCell<BytesMut>,
    pub(super) slots: RefCell<Slots>,
    sinks: RefCell<BTreeMap<ProducerConfig, Weak<Place>>>,
    /// librdkafka writes a byte to this end when a sink has events.
    bell: UnixStream,
    errands: std_mpsc::Sender<Errand>,
    /// Places made so far.
    made: Cell<u64>,
    /// Rounds of questions so far.
    rounds: Cell<u64>,
    /// Questions that wait for their answer.
    unanswered: Cell<usize>,
}

/// A sink's place in its lane.
#[derive(Debug)]
pub(super) struct Place {
    /// Never given twice.
    number: u64,
    /// In flight through this sink.
    pub(super) load: Load,
    pub(super) sink: RefCell<Sink>,
    /// When it last reported, had nothing to report, or was told where its brokers are.
    heard: Cell<Instant>,
    config: ProducerConfig,
    routes: RefCell<Vec<Weak<RefCell<Routes>>>>,
}

impl Place {
    /// The routes of a manifest's mapping, which all shards that have it share at this sink. The very mapping: a pipeline that was deleted
    /// and made anew has the old one's name and revision.
    pub(super) fn routes(&self, manifest: &Manifest) -> Rc<RefCell<Routes>> {
        let mut known = self.routes.borrow_mut();
        known.retain(|routes| routes.strong_count() > 0);
        let same = known.iter().filter_map(Weak::upgrade).find(|routes| routes.borrow().is_of(&manifest.mapping));
        same.unwrap_or_else(|| {
            let routes = Rc::new(RefCell::new(Routes::new(Arc::clone(&manifest.mapping), &manifest.metadata_headers)));
            known.push(Rc::downgrade(&routes));
            routes
        })
    }
}

impl Core {
    pub(super) fn new(limits: InFlight, bell: UnixStream, errands: std_mpsc::Sender<Errand>) -> Self {
        Self {
            limits,
            total: Rc::default(),
            room: Notify::new(),
            input: RefCell::default(),
            slots: RefCell::default(),
            sinks: RefCell::default(),
            bell,
            errands,
            made: Cell::new(0),
            rounds: Cell::new(0),
            unanswered: Cell::new(0),
        }
    }

    /// The lane's sink for `config`: the one that lives, or a new one.
    pub(super) fn sink(&self, config: &ProducerConfig) -> Result<Rc<Place>, SinkError> {
        let known = self.sinks.borrow().get(config).and_then(Weak::upgrade);
        if let Some(place) = known {
            if place.sink.borrow().death().is_none() {
                return Ok(place);
            }
            self.bury(&place);
        }
        let sink = Sink::new(config.clone(), self.bell.as_fd(), self.errands.clone())?;
        let (sink, config) = (RefCell::new(sink), config.clone());
        let (number, load, routes) = (self.made.get(), Load::of(&self.total), RefCell::default());
        let heard = Cell::new(Instant::now());
        let place = Rc::new(Place { number, load, sink, heard, config: config.clone(), routes });
        self.made.set(place.number + 1);
        self.sinks.borrow_mut().insert(config, Rc::downgrade(&place));
        Ok(place)
    }

    /// Every sink that lives.
    pub(super) fn places(&self) -> Vec<Rc<Place>> {
        let mut sinks = self.sinks.borrow_mut();
        sinks.retain(|_, place| place.strong_count() > 0);
        sinks.values().filter_map(Weak::upgrade).collect()
    }

    /// Hands over what the task in `slot` has staged.
    pub(super) fn flush(&self, place: &Place, slot: Slot) {
        let mut failures = Vec::new();
        let taken = place.sink.borrow_mut().flush(|_, record, code| {
            // librdkafka measures each record by itself: no need to find out which one is too large.
            let was_alone = code == RDKafkaErrorCode::MessageSizeTooLarge;
            let seq = Slot::seq(record.opaque);
            failures.push(Failure { slot, seq, code, was_alone, key: record.key, payload: record.payload });
        });
        self.handed_over(place, slot, taken);
        failures::handle(self, place, failures);
        let has_new_topic = place.sink.borrow_mut().take_new_topic();
        if has_new_topic {
            self.ask(true);
        }
    }

    /// The sink at `place` has taken records of the task in `slot`.
    pub(super) fn handed_over(&self, place: &Place, slot: Slot, taken: Volume) {
        place.load.add(taken);
        self.slots.borrow().handed_over(slot, taken);
    }

    /// Takes the reports of every sink; `false` when more may be waiting.
    pub(super) fn take_reports(&self) -> bool {
        let (places, mut is_done) = (self.places(), true);
        let had_room: Vec<_> = places.iter().map(|place| self.has_room(place)).collect();
        for place in &places {
            is_done &= self.take_reports_of(place);
        }
        if places.iter().zip(had_room).any(|(place, had_room)| !had_room && self.has_room(place)) {
            self.room.notify_waiters();
        }
        is_done
    }

    /// Shards at `place` may read on, as far as the lane is concerned.
    pub(super) fn has_room(&self, place: &Place) -> bool {
        // Living ones: nobody tells the waiting when the memory of a dead one is cleared away.
        let is_alone = self.sinks.borrow().values().filter(|place| place.strong_count() > 0).nth(1).is_none();
        self.total.has_room(&self.limits) && (is_alone || place.load.is_within_half(&self.limits))
    }

    fn take_reports_of(&self, place: &Rc<Place>) -> bool {
        let now = Instant::now();
        let (mut touched, mut failures): (Vec<Rc<RefCell<Shard>>>, Vec<Failure>) = (Vec::new(), Vec::new());
        let mut reported = Volume::default();
        let is_done = place.sink.borrow_mut().poll(|report| {
            let (opaque, bytes) = match &report {
                Report::Delivered { opaque, bytes, .. } => (*opaque, *bytes),
                Report::Failed { opaque, key, payload, .. } => (*opaque, (key.len() + payload.len()) as u64),
            };
            reported += Volume { readings: 1, bytes };
            let slots = self.slots.borrow();
            let Some((shard, slot, seq)) = slots.reported(opaque, bytes) else { return };
            match report {
                Report::Delivered { topic, partition, offset, .. } => {
                    let mut data = shard.borrow_mut();
                    data.delivered(seq, topic, partition, offset);
                    if !std::mem::replace(&mut data.is_touched, true) {
                        touched.push(Rc::clone(shard));
                    }
                }
                Report::Failed { code, was_alone, key, payload, .. } => {
                    let (key, payload) = (key.into(), Bytes::copy_from_slice(payload));
                    failures.push(Failure { slot, seq, code, was_alone, key, payload });
                }
            }
        });
        place.load.subtract(reported);
        if reported.readings > 0 {
            place.heard.set(now);
        }
        if !touched.is_empty() {
            place.sink.borrow_mut().clear_trouble();
        }
        for shard in touched {
            let mut shard = shard.borrow_mut();
            shard.is_touched = false;
            shard.settle(now);
            shard.wake.notify_one();
        }
        failures::handle(self, place, failures);
        if place.sink.borrow().death().is_some() {
            self.bury(place);
        }
        is_done
    }

    /// A sink can never deliver again: its shards go back to the broker and take a new one.
    pub(super) fn bury(&self, place: &Rc<Place>) {
        let is_known = self.sinks.borrow().get(&place.config).is_some_and(|known| known.ptr_eq(&Rc::downgrade(place)));
        if !is_known {
            return;
        }
        let death = place.sink.borrow().death().unwrap_or_default().to_owned();
        tracing::warn!(reason = %death, "the Kafka producer has failed for good; a new one takes over, and MQTT sends again what was in flight");
        self.sinks.borrow_mut().remove(&place.config);
        // Nobody asks it for reports any more.
        place.load.clear();
        for shard in self.slots.borrow().shards() {
            shard.borrow().wake.notify_one();
        }
    }

    /// Shows what has a clock in it, of every shard.
    pub(super) fn show(&self, now: Instant) {
        let full = self.why_full();
        for shard in self.slots.borrow().shards() {
            shard.borrow_mut().show(now, full.as_deref());
        }
    }

    /// Whose readings fill the lane, in words for an operator; none: it has room.
    fn why_full(&self) -> Option<String> {
        if self.total.has_room(&self.limits) {
            return None;
        }
        let fullest = self.places().into_iter().max_by_key(|place| place.load.share(&self.limits))?;
        let (servers, sink) = (fullest.config.get("bootstrap.servers").unwrap_or_default(), fullest.sink.borrow());
        let trouble = sink.trouble().map(|trouble| format!(": {trouble}")).unwrap_or_default();
        Some(format!(
            "this shard's lane is full of readings that wait for Kafka at {servers}{trouble}; it reads on as that Kafka takes them"
        ))
    }

    /// Tells each sink where its brokers are that has something to report and has said nothing for a while: it may know none any more.
    pub(super) fn rouse(&self, now: Instant) {
        for place in self.places() {
            if place.load.is_empty() {
                place.heard.set(now);
            } else if now.saturating_duration_since(place.heard.get()) >= SILENCE_MAX {
                place.heard.set(now);
                place.sink.borrow().find_brokers();
            }
        }
    }

    /// Asks the brokers for partition counts, on the thread that may wait; one round at a time.
    pub(super) fn ask(&self, only_unknown: bool) {
        if self.unanswered.get() > 0 {
            return;
        }
        let round = self.rounds.get();
        self.rounds.set(round + 1);
        for place in self.places() {
            let number = place.number;
            for query in place.sink.borrow().partition_queries(only_unknown) {
                if self.errands.send(Errand::Count { place: number, round, query }).is_ok() {
                    self.unanswered.set(self.unanswered.get() + 1);
                }
            }
        }
    }

    /// Takes an answer in. None is no news: what was known stays. A sink that has gone meanwhile needs none.
    pub(super) fn answer(&self, place: u64, topic: TopicNo, count: Option<i32>) {
        self.unanswered.set(self.unanswered.get().saturating_sub(1));
        let place = self.places().into_iter().find(|known| known.number == place);
        if let (Some(place), Some(_)) = (place, count) {
            place.sink.borrow_mut().set_partitions(topic, count);
        }
    }

    /// Lets go of everything but the bell, which must outlive every producer that may ring it.
    pub(super) fn close(self) -> UnixStream {
        self.bell
    }

    /// Where a sink's events ring.
    pub(super) fn bell_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
