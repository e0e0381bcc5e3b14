//! What a coordinator needs to start.

use std::{net::TcpListener, path::PathBuf, time::Duration};

use crate::{Transport, model::NodeName, plan};

/// What a coordinator needs to start.
#[derive(Debug)]
pub struct Config {
    /// Where it keeps its log and snapshots. Made if it does not exist; belongs to one node alone.
    pub data_dir: PathBuf,
    /// How long to wait for another process that has the directory: one that was told to end may need a moment. Default 0.
    pub data_dir_within: Duration,
    /// This node's name, stable across restarts.
    pub node: NodeName,
    /// What the cluster is called, the same on all its nodes and for ever: it is part of the MQTT client ids. Default `sluice`.
    pub cluster_name: String,
    /// `host:port` under which other nodes reach `cluster_listener`; empty without one.
    pub address: String,
    /// `host:port` of this node's admin listener, for people; empty where it has none.
    pub admin_address: String,
    /// Where other nodes speak to this one. Default none: a cluster of one node.
    pub cluster_listener: Option<TcpListener>,
    /// How nodes speak to each other. Default without encryption.
    pub transport: Transport,
    /// Where other nodes may be found: `host:port`, or a name that stands for several addresses. Default none.
    pub seeds: Vec<String>,
    /// How many nodes, this one among them, must say that they are in no cluster before this one founds one, and none of `seeds`
    /// may be silent. Default 1.
    pub bootstrap_expect: usize,
    /// Whether this node may found a cluster. Exactly one node of a cluster should; default true.
    pub may_found: bool,
    /// Most voters, 3 or 5. Default 5.
    pub voters_max: usize,
    /// How long a node may start tasks after a keep-alive that was answered. Default 2 s.
    pub lease: Duration,
    /// Between two keep-alives. Default 300 ms: six of them in a lease. The leader's own come more often where its Raft lease is short.
    pub keep_alive: Duration,
    /// Raft's clockwork.
    pub timings: Timings,
    /// How long a proposal may take, retries included. Default 10 s.
    pub propose_within: Duration,
    /// How shards are spread and moved.
    pub plan: plan::Settings,
}

impl Config {
    /// Everything but what has no default.
    pub fn new(data_dir: impl Into<PathBuf>, node: NodeName) -> Self {
        Self {
            data_dir: data_dir.into(),
            data_dir_within: Duration::ZERO,
            node,
            cluster_name: "sluice".to_owned(),
            address: String::new(),
            admin_address: String::new(),
            cluster_listener: None,
            transport: Transport::plain(),
            seeds: Vec::new(),
            bootstrap_expect: 1,
            may_found: true,
            voters_max: 5,
            lease: Duration::from_secs(2),
            keep_alive: Duration::from_millis(300),
            timings: Timings::default(),
            propose_within: Duration::from_secs(10),
            plan: plan::Settings::default(),
        }
    }
}

/// Raft's clockwork. Failover takes about twice `election_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Between two heartbeats of the leader. Default 100 ms.
    pub heartbeat: Duration,
    /// Shortest silence after which a voter stands for election. Default 500 ms.
    pub election_min: Duration,
    /// Longest; also the leader's lease. Default 1 s.
    pub election_max: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { heartbeat: ms(100), election_min: ms(500), election_max: ms(1_000) }
    }
}
