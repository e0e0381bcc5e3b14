//! One node's part in the Raft group: what the rest of the crate knows of Raft.
//!
//! A node starts passive: it founds nothing, stands for no election and waits to be spoken to, until it founds a cluster or a
//! leader takes it in. What it leads and who is in the group is in `roles`; what changes it, in `write`.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use openraft::{Raft, SnapshotPolicy, async_runtime::watch::WatchReceiver as _, errors::Fatal};
use sluice_proto::cluster::v1::raft_service_server::RaftServiceServer;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    files::{LOG, SNAPSHOTS},
    identity::{DataDir, Identity},
    log_store::LogStore,
    network::{Addresses, Network},
    roles::{self, Leadership},
    service::Service,
    snapshots::Snapshots,
    state_machine::{Replica, StateMachine},
    types::{RaftNode, TypeConfig},
};
use crate::{
    coordinator::{Config, StartError},
    machine::Touched,
    model::{ClusterId, RaftId, State},
    transport::Transport,
};

/// A snapshot every so many entries: at 200 proposals a second one in 100 seconds, and a restart applies no more than these.
const ENTRIES_PER_SNAPSHOT: u64 = 20_000;
/// Entries kept behind a snapshot, for a voter that is only a little behind.
const ENTRIES_KEPT: u64 = 1_000;

/// One voter, learner, or neither yet.
pub(crate) struct Group {
    pub(super) raft: Raft<TypeConfig, StateMachine>,
    pub(super) replica: Arc<Replica>,
    pub(super) log: LogStore,
    pub(super) me: Me,
    /// This node as others know it.
    node: RaftNode,
    pub(super) limits: Limits,
    /// The term in which this node, as its leader, has told the others to follow somebody else; 0: none.
    pub(super) given_up: AtomicU64,
    leadership: watch::Receiver<Leadership>,
    follows: JoinHandle<()>,
    /// None once shut down.
    dir: Arc<Mutex<Option<DataDir>>>,
}

/// Who this node is, for all that speaks in its name.
#[derive(Debug, Clone)]
pub(super) struct Me {
    pub(super) raft_id: RaftId,
    /// Empty until this node founds or joins a cluster.
    pub(super) cluster_id: Arc<OnceLock<ClusterId>>,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// One change, attempts included.
    pub(super) change: Duration,
    /// openraft's lease of a leader, after which others stand for election.
    pub(super) lease: Duration,
}

/// Why a node did not become part of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It is part of another one.
    #[error(
        "this node's disk belongs to cluster {has} and cannot join {asked}: give it an empty data directory, or the right seeds"
    )]
    OtherCluster {
        /// By the disk.
        has: ClusterId,
        /// The one to join.
        asked: ClusterId,
    },
    /// The disk said no.
    #[error("the cluster's id could not be written: {0}")]
    Disk(#[from] io::Error),
    /// Raft did not found the group.
    #[error("the cluster was not founded: {0}")]
    Raft(String),
}

impl Group {
    /// Opens the data directory and starts Raft from what lies there. Founds nothing.
    pub(crate) async fn open(config: &Config, transport: Transport) -> Result<Self, StartError> {
        let data_dir = config.data_dir.clone();
        let (mut dir, log) = open_log(&data_dir, config.data_dir_within).await?;
        let name = config.cluster_name.clone();
        let dir = blocking(move || dir.set_cluster_name(&name).map(|()| dir)).await??;
        let identity = dir.identity().clone();
        let snapshots_path = data_dir.join(SNAPSHOTS);
        let snapshots = blocking(move || Snapshots::open(snapshots_path)).await??;
        let machine = StateMachine::new(snapshots);
        let replica = machine.replica();

        let raft_config = raft_config(config).validate().map_err(|error| StartError::Timings(error.to_string()))?;
        let me = Me { raft_id: identity.raft_id, cluster_id: Arc::default() };
        if let Some(id) = identity.cluster_id {
            me.cluster_id.get_or_init(|| id);
        }
        let addresses = Addresses::default();
        let network = Network::new(me.clone(), transport, addresses.clone(), &config.timings);
        let raft = Raft::new(me.raft_id.0, Arc::new(raft_config), network, log.clone(), machine)
            .await
            .map_err(|fatal| StartError::Raft(fatal.to_string()))?;
        let (leadership, follows) = roles::follow(&raft, addresses);
        Ok(Self {
            raft,
            replica,
            log,
            me,
            node: RaftNode { name: config.node.to_string(), address: config.address.clone() },
            limits: Limits { change: config.propose_within, lease: config.timings.election_max },
            given_up: AtomicU64::new(0),
            leadership,
            follows,
            dir: Arc::new(Mutex::new(Some(dir))),
        })
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { cluster_id: self.me.cluster_id.get().cloned(), raft_id: self.me.raft_id }
    }

    /// Whether this disk was never part of any cluster: it knows of none, and has neither log nor vote.
    pub(crate) fn is_pristine(&self) -> bool {
        self.me.cluster_id.get().is_none() && self.log.is_empty()
    }

    /// Founds a cluster of one voter, this node. Only on a pristine disk.
    pub(crate) async fn found(&self, cluster_id: ClusterId) -> Result<(), JoinError> {
        if let Some(has) = self.me.cluster_id.get() {
            return Err(JoinError::OtherCluster { has: has.clone(), asked: cluster_id });
        }
        self.write_cluster(cluster_id.clone(), true).await?;
        let voters = BTreeMap::from([(self.me.raft_id.0, self.node.clone())]);
        self.raft.initialize(voters).await.map_err(|error| JoinError::Raft(error.to_string()))?;
        // Only now: whoever hears of a cluster joins it for ever, so it must be on this disk for ever too.
        self.me.cluster_id.get_or_init(|| cluster_id.clone());
        self.write_cluster(cluster_id.clone(), false).await?;
        tracing::info!(%cluster_id, raft_id = %self.me.raft_id, "founded a cluster");
        Ok(())
    }

    /// Makes this disk one of the cluster's, whose leader has taken it in. From then on it answers its voters, and nobody else.
    pub(crate) async fn adopt(&self, cluster_id: ClusterId) -> Result<(), JoinError> {
        match self.me.cluster_id.get() {
            Some(has) if *has == cluster_id => Ok(()),
            Some(has) => Err(JoinError::OtherCluster { has: has.clone(), asked: cluster_id }),
            None => {
                self.write_cluster(cluster_id.clone(), false).await?;
                self.me.cluster_id.get_or_init(|| cluster_id);
                Ok(())
            }
        }
    }

    /// On the disk only; nobody is told by it.
    async fn write_cluster(&self, asked: ClusterId, is_founding: bool) -> Result<(), JoinError> {
        let dir = self.dir.clone();
        let write = move || match dir.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(dir) => match &dir.identity().cluster_id {
                Some(has) if *has != asked => Err(JoinError::OtherCluster { has: has.clone(), asked }),
                _ => Ok(dir.set_cluster(asked, is_founding)?),
            },
            None => Err(io::Error::other("the data directory was let go").into()),
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }

    pub(crate) fn view<T>(&self, view: impl FnOnce(&State) -> T) -> T {
        self.replica.read(|applied| view(&applied.state))
    }

    /// A view, with the log index that it stands for.
    pub(crate) fn view_at<T>(&self, view: impl FnOnce(&State, u64) -> T) -> T {
        self.replica.read(|applied| view(&applied.state, applied.last.as_ref().map_or(0, |last| last.index)))
    }

    /// A view, with what has changed since this was last called. For one caller.
    pub(crate) fn view_touched<T>(&self, view: impl FnOnce(&State, &Touched) -> T) -> T {
        self.replica.read_touched(view)
    }

    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.replica.index()
    }

    /// Follows who leads, as far as this node knows.
    pub(crate) fn leader_changes(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// What the other nodes of the group call.
    pub(crate) fn service(&self) -> RaftServiceServer<Service> {
        Service::new(self.me.clone(), self.raft.clone()).into_server()
    }

    /// Ends when Raft has stopped by itself, with the reason. Never ends for an ordered stop.
    pub(crate) async fn failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            let state = metrics.borrow_watched().running_state.clone();
            match state {
                Err(Fatal::Stopped) => return std::future::pending().await,
                Err(fatal) => return fatal.to_string(),
                Ok(()) => {}
            }
            if metrics.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Stops Raft, writes what is left, lets go of the data directory. Safe to call twice.
    pub(crate) async fn shutdown(&self) -> io::Result<()> {
        self.follows.abort();
        let stopped = self.raft.shutdown().await.map_err(io::Error::other);
        let had = self.dir.lock().unwrap_or_else(PoisonError::into_inner).take();
        let closed = if had.is_some() { self.log.close().await } else { Ok(()) };
        stopped.and(closed)
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("me", &self.me).finish_non_exhaustive()
    }
}

/// Takes the data directory and opens its log, which is known to be this node's afterwards.
async fn open_log(data_dir: &Path, within: Duration) -> Result<(DataDir, LogStore), StartError> {
    let (path, log_path) = (data_dir.to_owned(), data_dir.join(LOG));
    let mut dir = blocking(move || DataDir::open_within(&path, within)).await??;
    let log = blocking(move || LogStore::open(&log_path)).await??;
    finish_recovery(&mut dir, &log)?;
    dir.check_log(log.owner(), log.is_empty())?;
    if log.owner().is_none() {
        log.set_owner(dir.identity().raft_id).await?;
    }
    let is_empty = log.is_empty();
    let dir = blocking(move || dir.set_log_made(is_empty).map(|()| dir)).await??;
    Ok((dir, log))
}

/// A recovery that was cut short after the log had passed to the new Raft id, and before the identity had.
pub(super) fn finish_recovery(dir: &mut DataDir, log: &LogStore) -> io::Result<()> {
    match log.owner() {
        Some(owner) if log.former() == Some(dir.identity().raft_id) => dir.set_raft_id(owner),
        _ => Ok(()),
    }
}

fn raft_config(config: &Config) -> openraft::Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "sluice".to_owned(),
        heartbeat_interval: millis(config.timings.heartbeat),
        election_timeout_min: millis(config.timings.election_min),
        election_timeout_max: millis(config.timings.election_max),
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(ENTRIES_PER_SNAPSHOT),
        replication_lag_threshold: ENTRIES_PER_SNAPSHOT + ENTRIES_KEPT,
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        ..openraft::Config::default()
    }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StartError::Raft(error.to_string()))
}
