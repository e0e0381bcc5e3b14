//! Reads the Kafka topics, all partitions from their ends onwards, and tells the oracle.
//!
//! Outlives an absence of Kafka: librdkafka connects again, or another client takes its place, and goes on where it was. Commits nothing.

use std::{
    collections::BTreeSet,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{progress::Progress, reading::Format};

/// With connecting. Who waits longer waits for nobody.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// Silence after which Kafka is asked whether it is there.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// A consumer that stands at the end of every partition.
pub(crate) struct Consumer {
    config: ClientConfig,
    client: BaseConsumer,
    /// Where this client began.
    begun: TopicPartitionList,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

impl Consumer {
    /// Finds the topics' partitions and stands at their ends: what is there already is not of this run.
    ///
    /// # Errors
    /// Kafka cannot be reached, or a topic does not exist.
    pub(crate) fn open(servers: &str, topics: &[String]) -> anyhow::Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", servers)
            .set("client.id", "sluice-loadtest")
            // Required by the client; no group is joined and nothing is committed.
            .set("group.id", "sluice-loadtest")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", "10")
            // 16 MiB read ahead, so that memory stays small when the oracle is slower than Kafka.
            .set("queued.max.messages.kbytes", "16384")
            .set("reconnect.backoff.max.ms", "1000");
        let client: BaseConsumer = config.create().context("creating the Kafka consumer")?;
        let mut ends = TopicPartitionList::new();
        for topic in topics {
            let metadata = client
                .fetch_metadata(Some(topic), METADATA_TIMEOUT)
                // The error shows its source by itself.
                .map_err(|error| anyhow::anyhow!("cannot reach Kafka at {servers}: {error}"))?;
            let Some(topic) = metadata.topics().first().filter(|topic| topic.error().is_none()) else {
                bail!("Kafka has no topic {topic:?}: create it first");
            };
            for partition in topic.partitions() {
                let (_, end) =
                    client.fetch_watermarks(topic.name(), partition.id(), METADATA_TIMEOUT).map_err(|error| {
                        anyhow::anyhow!("Kafka does not tell where {}/{} ends: {error}", topic.name(), partition.id())
                    })?;
                ends.add_partition_offset(topic.name(), partition.id(), Offset::Offset(end))?;
            }
        }
        client.assign(&ends).context("assigning partitions")?;
        Ok(Self { config, client, begun: ends })
    }

    /// Puts another client in this one's place when Kafka does not answer: a client that knows no broker any more stays silent for ever
    /// (<https://github.com/confluentinc/librdkafka/issues/5301>).
    fn look_again(&mut self) -> anyhow::Result<()> {
        if self.client.fetch_metadata(None, QUESTION_TIMEOUT).is_ok() {
            return Ok(());
        }
        // Of a partition that it has read nothing of yet, a client knows no position.
        let mut next = self.begun.clone();
        for read in self.client.position()?.elements() {
            if let Offset::Offset(_) = read.offset() {
                next.set_partition_offset(read.topic(), read.partition(), read.offset())?;
            }
        }
        let client: BaseConsumer = self.config.create()?;
        client.assign(&next)?;
        (self.client, self.begun) = (client, next);
        Ok(())
    }

    /// Consumes until the run is over; blocks its thread.
    pub(crate) fn run(mut self, format: &Format, progress: &Progress) {
        let mut said = BTreeSet::new();
        let mut heard = Instant::now();
        while !progress.is_over.load(Relaxed) {
            match self.client.poll(POLL) {
                Some(Ok(record)) => {
                    said.clear();
                    heard = Instant::now();
                    let stored_unix_ms = record.timestamp().to_millis().unwrap_or(0);
                    on_record(record.payload().unwrap_or_default(), stored_unix_ms, format, progress);
                }
                // Kafka is away or restarts; said once, as the client tries again by itself.
                Some(Err(error)) if said.insert(error.to_string()) => eprintln!("loadtest: Kafka: {error}"),
                Some(Err(_)) | None => {}
            }
            if heard.elapsed() >= SILENCE_MAX {
                if let Err(error) = self.look_again() {
                    eprintln!("loadtest: Kafka: {error:#}");
                }
                heard = Instant::now();
            }
        }
    }
}

fn on_record(payload: &[u8], stored_unix_ms: i64, format: &Format, progress: &Progress) {
    let Some((id, sent_unix_ns)) = format.parse(payload) else { return };
    let clock = &progress.clock;
    let latency_us = clock.unix_ns(clock.elapsed()).saturating_sub(sent_unix_ns) / 1_000;
    if progress.oracle().deliver(id, latency_us) {
        progress.note_delivery();
        if let Some(mut arrivals) = progress.arrivals() {
            arrivals.note(format.zone(id.device), stored_unix_ms, sent_unix_ns);
        }
    }
}
