//! Reads Kafka independently of the node and tells the tally what it sees.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaError,
};
use tokio::{sync::oneshot, time::timeout};

use super::{kafka, reading, tally::Tally};

/// How long a poll waits, and so how late a stop is noticed.
const POLL: Duration = Duration::from_millis(50);
/// How long the first look at every partition may take.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// How long the rest of the topic may take after the node has stopped.
const REST_DEADLINE: Duration = Duration::from_secs(10);

/// A thread that reads the topic.
#[derive(Debug)]
pub(super) struct Witness {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<anyhow::Result<()>>,
}

impl Witness {
    /// Reads every partition from its beginning; returns when it has seen that all are empty, so that its own start
    /// does not show in the latency. `start` is time 0 of the tally.
    pub(super) async fn start(
        bootstrap_servers: &str,
        tally: Arc<Mutex<Tally>>,
        start: Instant,
    ) -> anyhow::Result<Self> {
        let consumer: BaseConsumer<Quiet> = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers)
            .set("group.id", "sluice-demo-witness")
            .set("enable.auto.commit", "false")
            // The mock answers a fetch that found nothing only after this time; it adds to the latency shown.
            .set("fetch.wait.max.ms", "5")
            .set("enable.partition.eof", "true")
            .create_with_context(Quiet)?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..kafka::PARTITIONS {
            partitions.add_partition_offset(kafka::TOPIC, partition, Offset::Beginning)?;
        }
        consumer.assign(&partitions)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = oneshot::channel();
        let reader = Reader {
            consumer,
            tally,
            start,
            next: vec![0; partitions.count()],
            unseen: (0..kafka::PARTITIONS).collect(),
            ready: Some(ready),
            stop: Arc::clone(&stop),
        };
        let thread = thread::Builder::new().name("witness".to_owned()).spawn(move || reader.run())?;
        // An end of the thread also ends the wait; `finish` then says why.
        let _ = timeout(START_DEADLINE, is_ready).await.context("the demo's topic cannot be read")?;
        Ok(Self { stop, thread })
    }

    /// Reads to the end of the topic and stops. Call it when nothing writes any more.
    pub(super) async fn finish(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await?;
        joined.map_err(|_| anyhow!("the reader of Kafka panicked"))?
    }
}

/// What librdkafka says of this reader is no operator's matter: each end of a partition, for example, that it reaches.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "the witness's librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the witness's librdkafka");
    }
}

impl ConsumerContext for Quiet {}

struct Reader {
    consumer: BaseConsumer<Quiet>,
    tally: Arc<Mutex<Tally>>,
    start: Instant,
    /// Next offset by partition.
    next: Vec<i64>,
    /// Partitions whose end has not been reached once.
    unseen: BTreeSet<i32>,
    ready: Option<oneshot::Sender<()>>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn run(mut self) -> anyhow::Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            self.read_one()?;
        }
        let ends = (0..kafka::PARTITIONS)
            .map(|partition| Ok(self.consumer.fetch_watermarks(kafka::TOPIC, partition, REST_DEADLINE)?.1))
            .collect::<anyhow::Result<Vec<_>>>()
            .context("the end of the demo's topic is not known")?;
        let deadline = Instant::now() + REST_DEADLINE;
        while self.next.iter().zip(&ends).any(|(next, end)| next < end) {
            if Instant::now() > deadline {
                bail!("the demo's topic could not be read to its end");
            }
            self.read_one()?;
        }
        Ok(())
    }

    fn reached(&mut self, partition: i32) {
        self.unseen.remove(&partition);
        if self.unseen.is_empty()
            && let Some(ready) = self.ready.take()
        {
            // Nobody waits any more: the demo is ending.
            let _ = ready.send(());
        }
    }

    fn read_one(&mut self) -> anyhow::Result<()> {
        let Some(record) = self.consumer.poll(POLL) else { return Ok(()) };
        let record = match record {
            Ok(record) => record,
            Err(KafkaError::PartitionEOF(partition)) => {
                self.reached(partition);
                return Ok(());
            }
            // librdkafka mends these itself, or says so by a fatal error.
            Err(error) if self.consumer.client().fatal_error().is_none() => {
                tracing::debug!(%error, "the witness could not read");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let next = usize::try_from(record.partition()).ok().and_then(|partition| self.next.get_mut(partition));
        let next = next.context("a record of an unknown partition")?;
        if record.offset() > *next {
            bail!("the demo's Kafka dropped records before they were read: the reader did not keep up");
        }
        *next = record.offset() + 1;
        let identity = record.payload().and_then(reading::identify);
        let (device, seq) = identity.with_context(|| format!("a strange record at offset {}", record.offset()))?;
        let now = self.start.elapsed();
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).deliver(device, seq, now);
        Ok(())
    }
}
