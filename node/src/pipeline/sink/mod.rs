//! Readings out to Kafka: batches per partition in, delivery reports out.
//!
//! One [`Sink`] is one librdkafka producer of one lane, shared by every shard with the same producer configuration.
//! Promises: records of one partition are handed over in the order they were staged, each staged record is answered by
//! exactly one report (from `flush` when it was not taken, from `poll` otherwise) or none, once the sink is dead, and nothing is given
//! up by time.
//! What a failure means is the lane's to decide; [`verdict`] is its table.

#[cfg(test)]
mod forgetful;
mod native;
mod partition;
mod query;
#[cfg(test)]
mod tests;
mod verdict;

use std::{
    borrow::Cow,
    collections::HashMap,
    ffi::CStr,
    io::Write as _,
    ops::AddAssign,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::net::UnixStream,
    },
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
};

use bytes::Bytes;
use rdkafka::error::RDKafkaErrorCode;

use self::native::{Event, Native, Record, Remains, Scratch, Topic};
pub(crate) use self::{
    query::PartitionQuery,
    verdict::{Verdict, advice, verdict},
};
use crate::config::kafka::ProducerConfig;

/// Sinks that one process may have: the producer of each costs four threads and eight descriptors or more. The second one that a sink makes
/// to take a refused batch apart is not counted: refusing it would keep a poison from becoming a dead letter, for ever.
const SINKS_MAX: usize = 32;

/// Kafka topics that one sink may write to. Each costs a handle with a queue per partition; more than this is a mapping
/// that makes a topic per device by mistake.
const TOPICS_MAX: usize = 10_000;

/// What the producer of single records may send, in bytes: all that librdkafka can. A reading that the main producer finds too large goes
/// to the dead-letter topic whole, with headers, and that topic's own limit is the one that counts.
const ALONE_BYTES_MAX: &str = "1000000000";

/// Events taken from a producer before sockets get their turn again.
const EVENTS_PER_TURN_MAX: usize = 64;

static SINKS: AtomicUsize = AtomicUsize::new(0);

/// A Kafka header: name and value. Most names and some values are the same for ever.
pub(crate) type Header = (Cow<'static, CStr>, Cow<'static, [u8]>);

/// Number of a Kafka topic within its sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicNo(usize);

impl TopicNo {
    /// The number, for tables by topic.
    pub(crate) fn index(self) -> usize {
        self.0
    }

    /// The topic at a place in such a table.
    pub(crate) fn from_index(index: usize) -> Self {
        Self(index)
    }
}

/// A record that waits for the end of its read batch.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) opaque: u64,
    pub(crate) key: Rc<[u8]>,
    pub(crate) payload: Bytes,
    pub(crate) headers: Headers,
}

/// Headers of one record.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    /// First those that all records of a route have.
    pub(crate) shared: Option<Rc<[Header]>>,
    pub(crate) own: Vec<Header>,
}

impl Headers {
    /// None there: the record can travel in a batch call.
    fn is_empty(&self) -> bool {
        self.shared.is_none() && self.own.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Header> {
        self.shared.as_deref().unwrap_or_default().iter().chain(&self.own)
    }
}

impl Staged {
    /// What it takes in memory and in the bounds.
    pub(crate) fn volume(&self) -> Volume {
        Volume { readings: 1, bytes: (self.key.len() + self.payload.len()) as u64 }
    }
}

/// So many readings, and the bytes of their payloads and keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) readings: u64,
    pub(crate) bytes: u64,
}

impl AddAssign for Volume {
    fn add_assign(&mut self, other: Self) {
        self.readings += other.readings;
        self.bytes += other.bytes;
    }
}

/// What became of a staged record.
#[derive(Debug)]
pub(crate) enum Report<'a> {
    Delivered { opaque: u64, topic: TopicNo, partition: i32, offset: i64, bytes: u64 },
    Failed { opaque: u64, code: RDKafkaErrorCode, was_alone: bool, key: &'a [u8], payload: &'a [u8] },
}

/// Why a sink cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    /// The configuration is wrong.
    #[error("the Kafka producer cannot be made: {0}")]
    Refused(#[from] rdkafka::error::KafkaError),
    /// Too many different configurations.
    #[error(
        "this node would need more than {SINKS_MAX} Kafka producers: give pipelines the same sink.kafka properties, or run fewer lanes"
    )]
    TooManyProducers,
    /// Too many Kafka topics.
    #[error("more than {TOPICS_MAX} Kafka topics: make the mapping's topic template coarser")]
    TooManyTopics,
}

/// One producer, its topics, and the records staged for it.
#[derive(Debug)]
pub(crate) struct Sink {
    config: ProducerConfig,
    errands: mpsc::Sender<Errand>,
    main: Arc<Native>,
    /// Sends each record as a request of its own; made when Kafka first refuses a batch.
    alone: Option<Arc<Native>>,
    /// Given up when the sink dies: what is left of it must not keep its successor from being made.
    counted: Option<Counted>,
    topics: Vec<SinkTopic>,
    numbers: HashMap<Box<str>, TopicNo>,
    has_new_topic: bool,
    /// Groups with staged records, in the order they were first staged.
    dirty: Vec<(usize, usize)>,
    scratch: Scratch,
    /// What librdkafka last complained of, for an operator to read.
    trouble: Option<String>,
    death: Option<String>,
}

#[derive(Debug)]
struct SinkTopic {
    name: Arc<str>,
    main: Topic,
    alone: Option<Topic>,
    partitions: Option<i32>,
    /// Staged records: of librdkafka's choice of partition first, then of each partition.
    groups: Vec<Vec<Staged>>,
}

/// A sink's place among [`SINKS_MAX`].
#[derive(Debug)]
struct Counted(&'static AtomicUsize);

impl Counted {
    fn among(sinks: &'static AtomicUsize) -> Result<Self, SinkError> {
        let counted = Self(sinks);
        if sinks.fetch_add(1, Relaxed) < SINKS_MAX { Ok(counted) } else { Err(SinkError::TooManyProducers) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

fn producer(
    config: &ProducerConfig,
    overrides: &[(&str, &str)],
    errands: &mpsc::Sender<Errand>,
) -> Result<Arc<Native>, SinkError> {
    let mut config = config.client_config();
    for (name, value) in overrides {
        config.set(*name, *value);
    }
    Ok(Native::new(&config, errands.clone())?)
}

/// What may block: to be done on a thread that may wait.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Ask for a partition count. `place` and `round` are the asker's: whom to tell, and with which other questions it was asked.
    Count { place: u64, round: u64, query: PartitionQuery },
    /// End a producer, by dropping it.
    End(Remains),
}

/// Has librdkafka ring `wake` at events. It rings only for an event that finds its queue empty, and since the producer was made an error may
/// have come into it: unless the queue is emptied once it would never ring. So this rings first.
fn announce(producer: &Native, wake: BorrowedFd<'_>) {
    producer.announce_events(wake.as_raw_fd());
    let rung = wake.try_clone_to_owned().and_then(|wake| UnixStream::from(wake).write(&[1]));
    // A bell that takes no more has rung already; and the lane looks once a second by itself.
    drop(rung);
}

impl Sink {
    /// A sink with this producer configuration, whose events make `wake` readable; `wake` must stay open as long as anything of the
    /// sink lives, its questions included. Its producers end as `errands`.
    pub(crate) fn new(
        config: ProducerConfig,
        wake: BorrowedFd<'_>,
        errands: mpsc::Sender<Errand>,
    ) -> Result<Self, SinkError> {
        let counted = Counted::among(&SINKS)?;
        let main = producer(&config, &[], &errands)?;
        announce(&main, wake);
        Ok(Self {
            counted: Some(counted),
            config,
            errands,
            main,
            alone: None,
            topics: Vec::new(),
            numbers: HashMap::new(),
            has_new_topic: false,
            dirty: Vec::new(),
            scratch: Scratch::default(),
            trouble: None,
            death: None,
        })
    }

    /// The number of the topic `name`, new or known.
    pub(crate) fn topic(&mut self, name: &str) -> Result<TopicNo, SinkError> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        if self.topics.len() >= TOPICS_MAX {
            return Err(SinkError::TooManyTopics);
        }
        let number = TopicNo(self.topics.len());
        let main = self.main.topic(name, number.0)?;
        self.has_new_topic = true;
        self.topics.push(SinkTopic { name: name.into(), main, alone: None, partitions: None, groups: Vec::new() });
        self.numbers.insert(name.into(), number);
        Ok(number)
    }

    /// The topic's name.
    pub(crate) fn topic_name(&self, topic: TopicNo) -> &Arc<str> {
        &self.topics[topic.0].name
    }

    /// The topic's partition count, once a [`PartitionQuery`] was answered.
    pub(crate) fn partitions(&self, topic: TopicNo) -> Option<i32> {
        self.topics[topic.0].partitions
    }

    /// Learns a partition count; `None`: ask librdkafka's own partitioner from now on.
    pub(crate) fn set_partitions(&mut self, topic: TopicNo, count: Option<i32>) {
        if let Some(topic) = self.topics.get_mut(topic.0) {
            topic.partitions = count;
        }
    }

    /// Whether a topic has come since the last call, whose partitions are to be asked for.
    pub(crate) fn take_new_topic(&mut self) -> bool {
        std::mem::take(&mut self.has_new_topic)
    }

    /// The questions whose answers keep partition counts fresh: of all topics, or only of those not yet known.
    pub(crate) fn partition_queries(&self, only_unknown: bool) -> Vec<PartitionQuery> {
        let is_first = self.topics.iter().all(|topic| topic.partitions.is_none());
        let wanted = |(_, topic): &(usize, &SinkTopic)| !only_unknown || topic.partitions.is_none();
        let query = |(number, topic): (usize, &SinkTopic)| PartitionQuery {
            producer: Arc::clone(&self.main),
            name: Arc::clone(&topic.name),
            topic: TopicNo(number),
            is_first,
        };
        self.topics.iter().enumerate().filter(wanted).map(query).collect()
    }

    /// The partition that `key` belongs to; `None` while the count is not known: librdkafka's own partitioner, which
    /// keeps the same rule, takes such records and places them once it knows.
    pub(crate) fn partition_of(&self, topic: TopicNo, key: &[u8]) -> Option<i32> {
        self.partitions(topic).map(|count| partition::partition_of(key, count))
    }

    /// Puts a record into its partition's batch.
    pub(crate) fn stage(&mut self, topic: TopicNo, partition: Option<i32>, record: Staged) {
        let groups = &mut self.topics[topic.0].groups;
        let at = partition.map_or(0, |partition| usize::try_from(partition).unwrap_or(0) + 1);
        if groups.len() <= at {
            groups.resize_with(at + 1, Vec::new);
        }
        if groups[at].is_empty() {
            self.dirty.push((topic.0, at));
        }
        groups[at].push(record);
    }

    /// Hands everything staged to librdkafka; returns what it took. Calls `on_failed` with each record that was not taken, whole.
    pub(crate) fn flush(&mut self, mut on_failed: impl FnMut(TopicNo, Staged, RDKafkaErrorCode)) -> Volume {
        let mut taken = Volume::default();
        let mut dirty = std::mem::take(&mut self.dirty);
        for (number, at) in dirty.drain(..) {
            let topic = &mut self.topics[number];
            let mut records = std::mem::take(&mut topic.groups[at]);
            let partition = at.checked_sub(1).and_then(|partition| i32::try_from(partition).ok());
            let mut failed = Vec::new();
            if records.iter().all(|record| record.headers.is_empty()) {
                let batch = records.iter().map(record_of);
                topic.main.produce_batch(partition, batch, &mut self.scratch, |at, code| failed.push((at, code)));
            } else {
                for (at, record) in records.iter().enumerate() {
                    let headers = record.headers.iter();
                    if let Err(code) = topic.main.produce(partition, &record_of(record), headers, &mut self.scratch) {
                        failed.push((at, code));
                    }
                }
            }
            // From the end, so that the positions of the others stay right; told in the order of staging.
            let told: Vec<_> = failed.iter().rev().map(|(at, code)| (records.remove(*at), *code)).collect();
            told.into_iter().rev().for_each(|(record, code)| on_failed(TopicNo(number), record, code));
            records.drain(..).for_each(|record| taken += record.volume());
            self.topics[number].groups[at] = records;
        }
        self.dirty = dirty;
        if self.death.is_none()
            && let Some((code, reason)) = self.main.fatal_error()
        {
            self.kill(&format!("{reason} ({code})"));
        }
        taken
    }

    /// Sends one record as a request of its own, so that a refusal says that it is this record that Kafka refuses.
    pub(crate) fn send_alone(
        &mut self,
        topic: TopicNo,
        record: &Staged,
        wake: BorrowedFd<'_>,
    ) -> Result<(), SinkFailure> {
        if self.alone.is_none() {
            let overrides = [("batch.num.messages", "1"), ("linger.ms", "0"), ("message.max.bytes", ALONE_BYTES_MAX)];
            let alone = producer(&self.config, &overrides, &self.errands)?;
            announce(&alone, wake);
            self.alone = Some(alone);
        }
        let partition = self.partition_of(topic, &record.key);
        let known = &mut self.topics[topic.0];
        if let (None, Some(alone)) = (&known.alone, &self.alone) {
            known.alone = Some(alone.topic(&known.name, topic.0).map_err(SinkError::from)?);
        }
        match &known.alone {
            Some(handle) => {
                let mut produce = |to| handle.produce(to, &record_of(record), record.headers.iter(), &mut self.scratch);
                match produce(partition) {
                    // This producer's metadata may be older than the count: its own partitioner keeps the same rule.
                    Err(RDKafkaErrorCode::UnknownPartition) => produce(None),
                    produced => produced,
                }
                .map_err(SinkFailure::Code)
            }
            None => Err(SinkFailure::Code(RDKafkaErrorCode::BrokerDestroy)),
        }
    }

    /// Takes reports without blocking; `false` when more may be waiting.
    pub(crate) fn poll(&mut self, mut on_report: impl FnMut(Report<'_>)) -> bool {
        let (mut trouble, mut death, mut is_dead, mut is_done) = (self.trouble.take(), None, false, true);
        for (producer, was_alone) in
            [(Some(&self.main), false), (self.alone.as_ref(), true)].iter().filter_map(|(p, a)| Some(((*p)?, *a)))
        {
            is_done &= producer.poll(EVENTS_PER_TURN_MAX, |event| match event {
                Event::Report(report) => on_report(translate(&report, was_alone)),
                Event::Error { code, reason, is_fatal } => {
                    // That all are down says less than what was wrong with one.
                    if code != RDKafkaErrorCode::AllBrokersDown || trouble.is_none() {
                        trouble = Some(format!("{reason} ({code})"));
                    }
                    is_dead |= is_fatal;
                }
            });
            if is_dead && death.is_none() {
                let fatal = producer.fatal_error().map(|(code, reason)| format!("{reason} ({code})"));
                death = fatal.or(trouble.clone());
            }
        }
        if let Some(death) = death {
            self.kill(&death);
        }
        self.trouble = trouble;
        is_done
    }

    /// Names the bootstrap servers to librdkafka again. It forgets each broker that an answer about metadata does not list; one that is just
    /// coming back may list none, itself included, and then nobody is left to be asked: it would be silent for ever
    /// (<https://github.com/confluentinc/librdkafka/issues/5301>). Where it still knows them this changes nothing.
    pub(crate) fn find_brokers(&self) {
        let Some(servers) = self.config.get("bootstrap.servers") else { return };
        for producer in [Some(&self.main), self.alone.as_ref()].into_iter().flatten() {
            if let Err(error) = producer.add_brokers(servers) {
                tracing::warn!(servers, %error, "the bootstrap servers cannot be named to librdkafka again");
            }
        }
    }

    /// Says that this sink is of no more use, if nothing has said so before.
    pub(crate) fn kill(&mut self, why: &str) {
        self.death.get_or_insert_with(|| why.to_owned());
        self.counted = None;
    }

    /// Why this sink can never deliver again, if so.
    pub(crate) fn death(&self) -> Option<&str> {
        self.death.as_deref()
    }

    /// What librdkafka last complained of.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Kafka has answered: old complaints are over.
    pub(crate) fn clear_trouble(&mut self) {
        self.trouble = None;
    }
}

/// Why a record was not taken.
#[derive(Debug)]
pub(crate) enum SinkFailure {
    /// librdkafka refuses the record.
    Code(RDKafkaErrorCode),
    /// There is no producer to give it to.
    Sink(SinkError),
}

impl From<SinkError> for SinkFailure {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

fn record_of(staged: &Staged) -> Record<'_> {
    Record { key: &staged.key, payload: &staged.payload, opaque: staged.opaque }
}

fn translate<'a>(report: &native::Report<'a>, was_alone: bool) -> Report<'a> {
    match report.error {
        None => Report::Delivered {
            opaque: report.opaque,
            topic: TopicNo(report.topic),
            partition: report.partition,
            offset: report.offset,
            bytes: (report.key.len() + report.payload.len()) as u64,
        },
        Some(code) => {
            Report::Failed { opaque: report.opaque, code, was_alone, key: report.key, payload: report.payload }
        }
    }
}
