//! Who carries the demo's readings: one node inside this process, or a cluster of processes.

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use super::{
    cluster::{Cluster, Killed},
    flows::Flows,
    snapshot::{Carriers, Shard},
};
use crate::{
    app,
    config::{self, Host, Overrides},
};

/// The node, or the nodes.
#[derive(Debug)]
pub(super) enum Nodes {
    Here(Box<app::Node>),
    Processes(Cluster),
}

/// What the operator wants done to a node, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Kill(usize),
    KillLeader,
    StartAgain(usize),
    /// Every node that is dead.
    StartDead,
}

impl Nodes {
    /// A node in this process, as `sluice serve` starts it, with its disk and its pipeline beneath `dir`.
    pub(super) async fn here(dir: &Path, manifest: &str) -> anyhow::Result<Self> {
        let (data, pipelines) = (dir.join("data"), dir.join("pipelines"));
        fs::create_dir(&pipelines)?;
        fs::write(pipelines.join("demo.yaml"), manifest)?;
        let flags = Overrides {
            name: Some("demo".to_owned()),
            cluster: Some("demo".to_owned()),
            data_dir: Some(data.display().to_string()),
            pipelines_dir: Some(pipelines.display().to_string()),
            admin_listen: Some("127.0.0.1:0".to_owned()),
            http_listen: Some("127.0.0.1:0".to_owned()),
            ..Overrides::default()
        };
        let host = Host { name: None, cores: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN) };
        let config = config::Node::load(None, &BTreeMap::new(), &flags, &host)?;
        let mut node = app::Node::start(config).await?;
        node.up().await?;
        Ok(Self::Here(Box::new(node)))
    }

    /// A cluster of `count` processes, with their disks beneath `dir`, that has the pipeline.
    pub(super) async fn processes(
        count: usize,
        dir: &Path,
        manifest: &str,
        flows: Arc<Mutex<Flows>>,
    ) -> anyhow::Result<Self> {
        let mut cluster = Cluster::start(count, dir, flows)?;
        cluster.form(manifest).await?;
        Ok(Self::Processes(cluster))
    }

    /// What they show of themselves.
    pub(super) fn carriers(&self) -> Carriers {
        match self {
            Self::Here(node) => Carriers::Node(node.registry().tasks().iter().map(|task| Shard::of(task)).collect()),
            Self::Processes(cluster) => Carriers::Cluster(cluster.face()),
        }
    }

    /// How far every shard is, in words.
    pub(super) fn states(&self) -> String {
        let states: Vec<_> = match self.carriers() {
            Carriers::Node(shards) => {
                shards.iter().map(|shard| format!("{} is {} {}", shard.name, shard.state, shard.message)).collect()
            }
            Carriers::Cluster(face) => face
                .shards
                .iter()
                .map(|shard| format!("{} is {:?} {}", shard.name, shard.state, shard.message))
                .collect(),
        };
        states.join("; ")
    }

    /// Looks at them; what has happened, in sentences.
    pub(super) fn look(&mut self) -> anyhow::Result<Vec<String>> {
        match self {
            Self::Here(_) => Ok(Vec::new()),
            Self::Processes(cluster) => cluster.look(),
        }
    }

    /// Does what the operator wants; what was done, in sentences. A node in this process takes no orders.
    pub(super) fn obey(&mut self, order: Order) -> anyhow::Result<Vec<String>> {
        let Self::Processes(cluster) = self else { return Ok(Vec::new()) };
        let done = match order {
            Order::Kill(node) => cluster.kill(node)?,
            Order::KillLeader => cluster.kill_leader()?,
            Order::StartAgain(node) => cluster.start_again(node)?,
            Order::StartDead => return cluster.start_dead(),
        };
        Ok(done.into_iter().collect())
    }

    /// Who was killed.
    pub(super) fn kills(&self) -> Vec<Killed> {
        match self {
            Self::Here(_) => Vec::new(),
            Self::Processes(cluster) => cluster.kills(),
        }
    }

    /// Stops them in order.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Here(node) => {
                anyhow::ensure!(node.stop().await, "the node did not stop cleanly");
                Ok(())
            }
            Self::Processes(cluster) => cluster.stop().await,
        }
    }
}
