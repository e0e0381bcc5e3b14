//! The usual scene: a Mosquitto of one's own, a topic in the shared Kafka, one node that runs one pipeline between them.

use std::time::Duration;

use anyhow::ensure;
use sluice_proto::admin::v1::TaskState;

use crate::{
    eventually::{eventually, within},
    kafka::Kafka,
    loadtest::Load,
    mosquitto::{Mosquitto, Setup},
    node::Node,
    pipeline::Pipeline,
    topic::Topic,
};

/// What a test plays with.
#[derive(Debug)]
pub struct Scene {
    /// Ends first, so that its last words are not complaints about missing brokers.
    pub node: Node,
    pub mqtt: Mosquitto,
    pub topic: Topic,
    pub pipeline: Pipeline,
    kafka: String,
}

impl Scene {
    /// Sets the scene with the shared Kafka; `change` may alter the pipeline before it starts.
    ///
    /// # Errors
    /// Something does not start.
    pub fn set(change: impl FnOnce(&mut Pipeline)) -> anyhow::Result<Self> {
        Self::set_with(&Kafka::shared()?, &Setup::default(), "", change)
    }

    /// Sets the scene with this Kafka, this setup of Mosquitto and more lines in the node's configuration.
    ///
    /// # Errors
    /// Something does not start.
    pub fn set_with(
        kafka: &str,
        mqtt: &Setup,
        config: &str,
        change: impl FnOnce(&mut Pipeline),
    ) -> anyhow::Result<Self> {
        let mqtt = Mosquitto::start(mqtt)?;
        let topic = Topic::create(kafka, "readings", 4, &[])?;
        let mut pipeline = Pipeline::new("readings", &mqtt.url(), kafka, &topic.name);
        change(&mut pipeline);
        let node = Node::start_with(&[pipeline.yaml()], config)?;
        let scene = Self { node, mqtt, topic, pipeline, kafka: kafka.to_owned() };
        scene.wait_running()?;
        Ok(scene)
    }

    /// A load on this scene.
    pub fn load<'a>(&'a self, mqtt_url: &'a str) -> Load<'a> {
        Load::new(mqtt_url, &self.kafka, &self.topic.name)
    }

    /// Waits until every shard carries readings.
    ///
    /// # Errors
    /// One does not.
    pub fn wait_running(&self) -> anyhow::Result<()> {
        wait_running(&self.node)
    }

    /// Waits until some shard has failed, and gives what its status says.
    ///
    /// # Errors
    /// None fails.
    pub fn wait_failed(&self) -> anyhow::Result<String> {
        wait_failed(&self.node)
    }

    /// Waits until the ledger of all shards together says: everything received is settled, and nothing is in flight. Gives the
    /// number delivered.
    ///
    /// # Errors
    /// It does not come to that, or a reading is unaccounted for.
    pub fn wait_settled(&self) -> anyhow::Result<u64> {
        within(Duration::from_secs(30), "the ledger settles", || {
            let checkpoints = self.node.admin()?.checkpoints()?;
            let ledgers: Vec<_> = checkpoints.into_iter().filter_map(|checkpoint| checkpoint.ledger).collect();
            ensure!(ledgers.len() == self.pipeline.shards as usize, "{} checkpoints", ledgers.len());
            ensure!(ledgers.iter().all(|ledger| ledger.in_flight == 0), "in flight: {ledgers:?}");
            ensure!(ledgers.iter().all(|ledger| ledger.unaccounted == 0), "unaccounted: {ledgers:?}");
            Ok(ledgers.iter().map(|ledger| ledger.delivered).sum())
        })
    }
}

/// Waits until every shard on this node carries readings.
///
/// # Errors
/// One does not.
pub fn wait_running(node: &Node) -> anyhow::Result<()> {
    eventually("every shard runs", || {
        let assignments = node.admin()?.assignments()?;
        ensure!(!assignments.is_empty(), "no assignments");
        let running = |state: i32| state == TaskState::Running as i32 || state == TaskState::BackPressure as i32;
        ensure!(assignments.iter().all(|assignment| running(assignment.state)), "{assignments:?}");
        Ok(())
    })
}

/// Waits until some shard on this node has failed, and gives what its status says.
///
/// # Errors
/// None fails.
pub fn wait_failed(node: &Node) -> anyhow::Result<String> {
    eventually("a shard fails", || {
        let assignments = node.admin()?.assignments()?;
        let failed = assignments.iter().find(|assignment| assignment.state == TaskState::Failed as i32);
        failed.map(|assignment| assignment.message.clone()).ok_or_else(|| anyhow::anyhow!("{assignments:?}"))
    })
}
