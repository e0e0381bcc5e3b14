//! Nodes of a cluster in one process, each on a runtime of its own: dropping that is as near to `kill -9` as a process comes.

use std::{
    collections::BTreeMap,
    future::Future,
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use sluice_coordinator::{
    Config, Coordinator, Recovery, StartError, Timings,
    machine::{ApplyPipeline, Outcome, RecordCheckpoints},
    model::{
        Checkpoint, ClusterId, Ledger, NodeName, Owner, PipelineSpec, ShardId, SourceIdentity, TaskState, TaskStatus,
    },
    now,
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

pub(crate) const LEASE: Duration = Duration::from_millis(1_000);

/// How a node is started.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seeds: Vec<String>,
    pub(crate) expect: usize,
    pub(crate) may_found: bool,
    pub(crate) voters_max: usize,
}

/// A loopback address that no other node has. Connections go out from 127.0.0.1, so none of them can take the port of a node that is down.
fn own_ip() -> Ipv4Addr {
    static NODES: AtomicU32 = AtomicU32::new(0);
    let [_, _, high, low] = process::id().to_be_bytes();
    let [.., number] = NODES.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 64 | high & 63, low, number.max(1))
}

/// A node, running or not.
pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) address: String,
    pub(crate) plan: Plan,
    dir: TempDir,
    running: Option<(Runtime, Coordinator)>,
}

impl Node {
    /// A node with an empty disk and an address of its own, not running.
    pub(crate) fn new(name: &str, plan: Plan) -> Self {
        let address = TcpListener::bind((own_ip(), 0)).unwrap().local_addr().unwrap().to_string();
        Self { name: name.parse().unwrap(), address, plan, dir: tempfile::tempdir().unwrap(), running: None }
    }

    pub(crate) async fn start(&mut self) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let started = Instant::now();
        // What a killed node held is let go in a moment.
        let coordinator = loop {
            let listener = loop {
                match TcpListener::bind(&self.address) {
                    Ok(listener) => break listener,
                    Err(error) => assert!(started.elapsed() < Duration::from_secs(10), "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            match runtime.spawn(Coordinator::start(self.config(listener))).await.unwrap() {
                Ok(coordinator) => break coordinator,
                Err(error @ (StartError::DataDir(_) | StartError::Storage(_))) => {
                    assert!(started.elapsed() < Duration::from_secs(10), "{error}");
                }
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        runtime.spawn(release_what_moves(coordinator.clone()));
        self.running = Some((runtime, coordinator));
    }

    fn config(&self, listener: TcpListener) -> Config {
        let ms = Duration::from_millis;
        let mut config = Config::new(self.dir.path(), self.name.clone());
        config.address.clone_from(&self.address);
        config.cluster_listener = Some(listener);
        config.seeds.clone_from(&self.plan.seeds);
        (config.bootstrap_expect, config.may_found) = (self.plan.expect, self.plan.may_found);
        config.voters_max = self.plan.voters_max;
        (config.lease, config.keep_alive) = (LEASE, ms(100));
        config.timings = Timings { heartbeat: ms(60), election_min: ms(300), election_max: ms(600) };
        config.propose_within = Duration::from_secs(4);
        config.plan.stable_after = ms(500);
        config.plan.handover_deadline = Duration::from_secs(5);
        config
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some((runtime, coordinator)) = self.running.take() {
            runtime.shutdown_background();
            drop(coordinator);
        }
    }

    /// As an ordered stop.
    pub(crate) async fn stop(&mut self) {
        self.on(async |c| {
            c.leave(Duration::from_secs(10)).await;
            c.hand_over_leadership().await;
            c.shutdown().await.unwrap();
        })
        .await;
        self.kill();
    }

    /// As `sluice cluster recover --force`.
    pub(crate) async fn recover(&self) -> Recovery {
        assert!(self.running.is_none());
        let started = Instant::now();
        loop {
            match sluice_coordinator::recover(self.dir.path(), true).await {
                Ok(recovery) => return recovery,
                // What a killed node held is let go in a moment.
                Err(error) => assert!(started.elapsed() < Duration::from_secs(10), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// As a node that comes back although its disk was removed.
    pub(crate) async fn discard(&self) {
        assert!(self.running.is_none());
        let started = Instant::now();
        // What a killed node held is let go in a moment.
        while let Err(error) = sluice_coordinator::discard(self.dir.path()) {
            assert!(started.elapsed() < Duration::from_secs(10), "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A new disk.
    pub(crate) fn wipe(&mut self) {
        assert!(self.running.is_none());
        self.dir = tempfile::tempdir().unwrap();
    }

    pub(crate) fn coordinator(&self) -> &Coordinator {
        &self.running.as_ref().unwrap().1
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Does something on the node's own runtime.
    pub(crate) async fn on<T, F>(&self, work: impl FnOnce(Coordinator) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (runtime, coordinator) = self.running.as_ref().unwrap();
        runtime.spawn(work(coordinator.clone())).await.unwrap()
    }

    pub(crate) async fn attached(&self) -> Owner {
        let attached = self.on(|c| async move { c.attached().await });
        tokio::time::timeout(Duration::from_secs(20), attached).await.expect("it attaches").unwrap()
    }

    pub(crate) fn cluster_id(&self) -> Option<ClusterId> {
        self.coordinator().status().cluster_id
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.is_running() && {
            let status = self.coordinator().status();
            status.is_attached && status.members.iter().any(|member| member.name == self.name && member.is_leader)
        }
    }

    /// Voters by name, as this node knows them.
    pub(crate) fn voters(&self) -> Vec<String> {
        let status = self.coordinator().status();
        status.members.iter().filter(|member| member.is_voter).map(|member| member.name.to_string()).collect()
    }

    /// Shards by their owners' names, as this node has applied.
    pub(crate) fn loads(&self) -> BTreeMap<String, usize> {
        self.coordinator().view(|state| {
            let mut loads = BTreeMap::new();
            for shard in state.shards.values() {
                *loads
                    .entry(shard.owner.as_ref().map_or(String::new(), |owner| owner.node.to_string()))
                    .or_default() += 1;
            }
            loads
        })
    }

    /// Shards of its part.
    pub(crate) fn part(&self) -> usize {
        self.coordinator().part().borrow().shards.len()
    }

    pub(crate) async fn apply(&self, shards: u32) {
        let source =
            SourceIdentity { servers: vec!["mqtt://x".into()], share_group: None, client_id_prefix: "p".into() };
        let name = "readings".parse().unwrap();
        let spec = PipelineSpec {
            name,
            shards: shards.try_into().unwrap(),
            source,
            filters: vec!["x/#".into()],
            manifest: String::new(),
            must_keep_shards: false,
        };
        let outcome = self.on(|c| async move { c.propose(ApplyPipeline { spec }).await }).await.unwrap();
        assert!(matches!(outcome, Outcome::Pipeline { .. }), "{outcome:?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a node's supervisor does: releases the shards that are to go elsewhere.
async fn release_what_moves(coordinator: Coordinator) {
    let mut part = coordinator.part();
    loop {
        let me = coordinator.me();
        let moving: Vec<_> = {
            let part = part.borrow_and_update();
            let moving = part.shards.iter().filter(|(_, shard)| shard.handover.is_some() && shard.owner == me);
            moving.map(|(id, shard)| (id.clone(), released(shard.epoch))).collect()
        };
        if let Some(node) = me.filter(|_| !moving.is_empty()) {
            let _ = coordinator.propose(RecordCheckpoints { node, checkpoints: moving }).await;
        }
        if part.changed().await.is_err() {
            return;
        }
    }
}

fn released(epoch: sluice_coordinator::model::Epoch) -> Checkpoint {
    Checkpoint {
        epoch,
        taken_at: now(),
        ledger: Ledger::default(),
        next_offsets: BTreeMap::new(),
        session: None,
        status: TaskStatus { state: TaskState::Stopped, message: String::new() },
        released: true,
        oldest_unacked_ms: 0,
    }
}

/// `count` nodes that are each other's seeds; only `n-0` may found.
pub(crate) fn nodes(count: usize, voters_max: usize) -> Vec<Node> {
    let plan = Plan { seeds: Vec::new(), expect: count, may_found: false, voters_max };
    let mut nodes: Vec<_> = (0..count).map(|number| Node::new(&format!("n-{number}"), plan.clone())).collect();
    let seeds: Vec<_> = nodes.iter().map(|node| node.address.clone()).collect();
    nodes.iter_mut().for_each(|node| node.plan.seeds.clone_from(&seeds));
    nodes[0].plan.may_found = true;
    nodes
}

/// Such nodes, running and attached, with as many of them voting as should.
pub(crate) async fn cluster(count: usize, voters_max: usize) -> Vec<Node> {
    let mut nodes = nodes(count, voters_max);
    for node in &mut nodes {
        node.start().await;
    }
    for node in &nodes {
        node.attached().await;
    }
    let odd = if count.is_multiple_of(2) { count - 1 } else { count };
    let voters = odd.min(voters_max);
    eventually("the voters vote", || leader(&nodes).is_some_and(|leader| leader.voters().len() == voters)).await;
    stillness(&nodes).await;
    nodes
}

/// Waits until every voter has applied the same and nothing more comes. A change of voters has two entries, and a node that is killed
/// between them takes the majority of the smaller set with it.
async fn stillness(nodes: &[Node]) {
    let applied = || -> Vec<_> {
        let voters = leader(nodes).map(Node::voters).unwrap_or_default();
        let voters = nodes.iter().filter(|node| voters.contains(&node.name.to_string()));
        voters.map(|node| node.coordinator().status().applied_index).collect()
    };
    let (started, mut before, mut since) = (Instant::now(), applied(), Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        assert!(started.elapsed() < Duration::from_secs(30), "the log does not come to rest");
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = applied();
        if now != before || now.is_empty() || now.iter().any(|index| *index != now[0]) {
            (before, since) = (now, Instant::now());
        }
    }
}

pub(crate) fn leader(nodes: &[Node]) -> Option<&Node> {
    nodes.iter().find(|node| node.is_leader())
}

/// Waits until it is so, for 30 seconds: many tests run at once on few cores.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(30), "it never came to be: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Every shard is some running node's, and in that node's part.
pub(crate) fn is_settled(nodes: &[Node], shards: usize) -> bool {
    let Some(leader) = leader(nodes) else { return false };
    let loads = leader.loads();
    let running: Vec<_> = nodes.iter().filter(|node| node.is_running()).collect();
    loads.values().sum::<usize>() == shards
        && running.iter().map(|node| node.part()).sum::<usize>() == shards
        && running.iter().all(|node| loads.get(node.name.as_str()).copied().unwrap_or_default() == node.part())
}

pub(crate) fn shard(index: u32) -> ShardId {
    ShardId { pipeline: "readings".parse().unwrap(), index }
}
