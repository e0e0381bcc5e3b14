//! One voter of the Raft group: what the rest of the crate knows of Raft.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use openraft::{
    Raft, ServerState, SnapshotPolicy,
    async_runtime::watch::WatchReceiver as _,
    errors::{ClientWriteError, Fatal, InitializeError, RaftError},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::{
    identity::{DataDir, DataDirError, Identity},
    log_store::LogStore,
    network::Alone,
    snapshots::Snapshots,
    state_machine::{Replica, StateMachine},
    types::{RaftNode, TypeConfig},
};
use crate::{
    coordinator::{Config, ProposeError, StartError},
    machine::{Command, Outcome},
    model::{NodeName, RaftId, State},
};

/// A snapshot every so many entries: at 200 proposals a second one in 100 seconds, and a restart applies no more than these.
const ENTRIES_PER_SNAPSHOT: u64 = 20_000;
/// Entries kept behind a snapshot, for a voter that is only a little behind.
const ENTRIES_KEPT: u64 = 1_000;
/// First and longest wait between two attempts to propose.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// One voter.
pub(crate) struct Group {
    raft: Raft<TypeConfig, StateMachine>,
    replica: Arc<Replica>,
    pub(super) log: LogStore,
    identity: Identity,
    propose_within: Duration,
    /// None once shut down.
    dir: Mutex<Option<DataDir>>,
}

/// What Raft knows of itself.
#[derive(Debug, Clone)]
pub(crate) struct Roles {
    pub(crate) term: u64,
    pub(crate) leader: Option<RaftId>,
    pub(crate) voters: Vec<RaftId>,
    /// The leader's name, where the membership knows it.
    pub(crate) leader_name: Option<NodeName>,
}

impl Group {
    /// Opens the voter in the data directory, and founds the group if the directory is empty.
    pub(crate) async fn open(config: &Config) -> Result<Self, StartError> {
        let dir = config.data_dir.clone();
        let mut dir = blocking(move || DataDir::open(&dir)).await??;
        let identity = dir.identity.clone();
        let (log_path, snapshots_path) = (config.data_dir.join("log.redb"), config.data_dir.join("snapshots"));
        let log = blocking(move || LogStore::open(&log_path)).await??;
        if dir.is_founded && log.is_empty() {
            return Err(DataDirError::LogLost(config.data_dir.clone()).into());
        }
        let snapshots = blocking(move || Snapshots::open(snapshots_path)).await??;
        let machine = StateMachine::new(snapshots);
        let replica = machine.replica();
        let raft_config =
            Arc::new(raft_config(config).validate().map_err(|error| StartError::Timings(error.to_string()))?);
        let raft = Raft::new(identity.raft_id.0, raft_config, Alone, log.clone(), machine)
            .await
            .map_err(|fatal| StartError::Raft(fatal.to_string()))?;
        let node = RaftNode { name: config.node.to_string(), address: config.address.clone() };
        match raft.initialize(BTreeMap::from([(identity.raft_id.0, node)])).await {
            Ok(()) => {
                tracing::info!(cluster_id = %identity.cluster_id, raft_id = %identity.raft_id, "founded a cluster");
            }
            // The usual case: it was founded when this directory was new.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(StartError::Raft(error.to_string())),
        }
        let dir = blocking(move || dir.set_founded().map(|()| dir)).await??;
        let propose_within = config.propose_within;
        Ok(Self { raft, replica, log, identity, propose_within, dir: Mutex::new(Some(dir)) })
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn view<T>(&self, view: impl FnOnce(&State) -> T) -> T {
        self.replica.read(|applied| view(&applied.state))
    }

    /// A view, with the log index that it stands for.
    pub(crate) fn view_at<T>(&self, view: impl FnOnce(&State, u64) -> T) -> T {
        self.replica.read(|applied| view(&applied.state, applied.last.as_ref().map_or(0, |last| last.index)))
    }

    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.replica.index()
    }

    /// Whether this voter leads and has applied all that earlier leaders committed: only then is a plan made on its state sound.
    pub(crate) fn is_leading(&self) -> bool {
        let (is_leader, term) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.state == ServerState::Leader, metrics.current_term)
        };
        is_leader && self.replica.read(|applied| applied.last.as_ref().is_some_and(|last| last.leader_id.term == term))
    }

    pub(crate) fn roles(&self) -> Roles {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader_node = metrics.current_leader.and_then(|id| metrics.membership_config.get_node(&id));
        Roles {
            term: metrics.current_term,
            leader: metrics.current_leader.map(RaftId),
            voters: metrics.membership_config.voter_ids().map(RaftId).collect(),
            leader_name: leader_node.and_then(|node| node.name.parse().ok()),
        }
    }

    /// Proposes until the command is applied, the deadline has passed, or Raft has stopped. Tries again only what was certainly
    /// not appended.
    pub(crate) async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let deadline = Instant::now() + self.propose_within;
        let mut wait = RETRY_AFTER.0;
        loop {
            let attempt = timeout_at(deadline, self.raft.client_write(command.clone())).await;
            let refused = match attempt {
                Ok(Ok(written)) => {
                    return written.data.ok_or_else(|| ProposeError::Stopped("a command had no outcome".to_owned()));
                }
                Ok(Err(RaftError::Fatal(fatal))) => return Err(ProposeError::Stopped(fatal.to_string())),
                // Before its first answer from a quorum a new leader takes no writes: that passes by itself.
                Ok(Err(RaftError::APIError(error @ ClientWriteError::ForwardToLeader(_)))) => error,
                Ok(Err(RaftError::APIError(error))) => return Err(ProposeError::Unknown(error.to_string())),
                Err(_) => return Err(ProposeError::Unknown(format!("no answer in {:?}", self.propose_within))),
            };
            if Instant::now() + wait >= deadline {
                return Err(ProposeError::Unavailable(format!("{refused}, for {:?}", self.propose_within)));
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_AFTER.1);
        }
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
        let stopped = self.raft.shutdown().await.map_err(io::Error::other);
        let had = self.dir.lock().unwrap_or_else(PoisonError::into_inner).take();
        let closed = if had.is_some() { self.log.close().await } else { Ok(()) };
        stopped.and(closed)
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("identity", &self.identity).finish_non_exhaustive()
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

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StartError::Raft(error.to_string()))
}
