//! The demo's Kafka: librdkafka's mock cluster in this process. It keeps nothing on disk, and of each partition only the
//! last 5 MiB or 100,000 records, so a reader must keep up.

use anyhow::Context as _;
use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};

/// The topic that the demo's pipeline writes to.
pub(super) const TOPIC: &str = "iot-sensor-readings";
/// 16 × 5 MiB hold about 400,000 readings: ten times what sensors let pile up.
pub(super) const PARTITIONS: i32 = 16;

/// A running mock cluster; its ports close when it is dropped.
pub(super) struct Kafka(MockCluster<'static, DefaultProducerContext>);

impl Kafka {
    /// Starts one broker and creates the topic.
    pub(super) fn start() -> anyhow::Result<Self> {
        let cluster = MockCluster::new(1).context("the demo's Kafka does not start")?;
        cluster.create_topic(TOPIC, PARTITIONS, 1).context("the demo's Kafka does not create its topic")?;
        Ok(Self(cluster))
    }

    /// Where it listens.
    pub(super) fn bootstrap_servers(&self) -> String {
        self.0.bootstrap_servers()
    }
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kafka").field(&self.bootstrap_servers()).finish()
    }
}
