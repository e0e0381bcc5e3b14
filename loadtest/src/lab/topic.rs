//! A Kafka topic of a test's own, and the oracle that reads all of it, outside the product.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};
use tokio::runtime;

const TIMEOUT: Duration = Duration::from_secs(30);

/// One record as Kafka holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where.
    pub partition: i32,
    /// Where in the partition.
    pub offset: i64,
    /// Unix time; with the setting `message.timestamp.type=LogAppendTime` when Kafka stored it, by Kafka's clock.
    pub timestamp_ms: i64,
    /// As it was sent, or empty.
    pub key: Vec<u8>,
    /// As it was sent, or empty.
    pub payload: Vec<u8>,
    /// In the order of sending.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The value of the first header of that name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

/// A topic that this test made.
#[derive(Debug, Clone)]
pub struct Topic {
    servers: String,
    /// Its name, different at each call.
    pub name: String,
}

impl Topic {
    /// Makes a topic with a name of its own that begins with `name`, and settings such as `("max.message.bytes", "2000")`.
    ///
    /// # Errors
    /// Kafka refuses, or cannot be reached.
    pub fn create(servers: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        Self::make(servers, format!("{name}-{}", NUMBER.fetch_add(1, Relaxed)), partitions, settings)
    }

    /// Makes a topic with exactly this name.
    ///
    /// # Errors
    /// Kafka refuses, or cannot be reached.
    pub fn create_exactly(servers: &str, name: &str, partitions: i32) -> anyhow::Result<Self> {
        Self::make(servers, name.to_owned(), partitions, &[])
    }

    fn make(servers: &str, name: String, partitions: i32, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let admin = admin(servers)?;
        let results = block_on(admin.create_topics([&topic], &options()))??;
        for result in results {
            result.map_err(|(topic, error)| anyhow::anyhow!("creating {topic}: {error}"))?;
        }
        Ok(Self { servers: servers.to_owned(), name })
    }

    /// Removes it, with all it holds.
    ///
    /// # Errors
    /// Kafka refuses, or cannot be reached.
    pub fn delete(&self) -> anyhow::Result<()> {
        for result in block_on(admin(&self.servers)?.delete_topics(&[&self.name], &options()))?? {
            result.map_err(|(topic, error)| anyhow::anyhow!("removing {topic}: {error}"))?;
        }
        Ok(())
    }

    /// Changes one setting of the topic.
    ///
    /// # Errors
    /// Kafka refuses, or cannot be reached.
    pub fn set(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let change = AlterConfig::new(ResourceSpecifier::Topic(&self.name)).set(key, value);
        let results = block_on(admin(&self.servers)?.alter_configs([&change], &options()))??;
        for result in results {
            result.map_err(|(what, error)| anyhow::anyhow!("changing {what:?}: {error}"))?;
        }
        Ok(())
    }

    /// Every record in it, ordered by partition and offset, as a `read_committed` consumer sees it.
    ///
    /// # Errors
    /// Kafka cannot be reached.
    pub fn read_all(&self) -> anyhow::Result<Vec<Record>> {
        let consumer = self.consumer()?;
        let ends = self.end_offsets_with(&consumer)?;
        let mut missing: i64 = ends.iter().map(|(_, end)| end).sum();
        let mut list = TopicPartitionList::new();
        for (partition, _) in &ends {
            list.add_partition_offset(&self.name, *partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let mut records = Vec::new();
        // The topics of tests are not compacted and hold no transactions: an offset is a record.
        while missing > 0 {
            let record =
                consumer.poll(TIMEOUT).with_context(|| format!("{missing} records of {} missing", self.name))??;
            let headers = record.headers().map(|headers| {
                headers.iter().map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())).collect()
            });
            records.push(Record {
                partition: record.partition(),
                offset: record.offset(),
                timestamp_ms: record.timestamp().to_millis().unwrap_or_default(),
                key: record.key().unwrap_or_default().to_vec(),
                payload: record.payload().unwrap_or_default().to_vec(),
                headers: headers.unwrap_or_default(),
            });
            missing -= 1;
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// How many records it holds.
    ///
    /// # Errors
    /// Kafka cannot be reached.
    pub fn count(&self) -> anyhow::Result<i64> {
        Ok(self.end_offsets()?.iter().map(|(_, end)| end).sum())
    }

    /// The end offset of each partition.
    ///
    /// # Errors
    /// Kafka cannot be reached.
    pub fn end_offsets(&self) -> anyhow::Result<Vec<(i32, i64)>> {
        self.end_offsets_with(&self.consumer()?)
    }

    /// Fails unless it holds exactly `count` records: for use in `eventually`.
    ///
    /// # Errors
    /// It holds another number.
    pub fn check_count(&self, count: i64) -> anyhow::Result<()> {
        let found = self.count()?;
        ensure!(found == count, "{} holds {found} records, not {count}", self.name);
        Ok(())
    }

    fn end_offsets_with(&self, consumer: &BaseConsumer) -> anyhow::Result<Vec<(i32, i64)>> {
        let metadata = consumer.fetch_metadata(Some(&self.name), TIMEOUT)?;
        let Some(topic) = metadata.topics().first() else { bail!("no topic {}", self.name) };
        topic
            .partitions()
            .iter()
            .map(|partition| {
                let (_, end) = consumer.fetch_watermarks(&self.name, partition.id(), TIMEOUT)?;
                Ok((partition.id(), end))
            })
            .collect()
    }

    fn consumer(&self) -> anyhow::Result<BaseConsumer> {
        ClientConfig::new()
            .set("bootstrap.servers", &self.servers)
            .set("group.id", "sluice-tests")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "10")
            .create()
            .context("creating a Kafka consumer")
    }
}

fn admin(servers: &str) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    ClientConfig::new().set("bootstrap.servers", servers).create().context("creating a Kafka admin client")
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}
