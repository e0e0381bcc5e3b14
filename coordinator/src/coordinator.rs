//! The coordinator of one node: config, handle, errors.
//!
//! Owns the Raft voter and the leader's loop; others see the handle. What `view` shows has been applied; what `propose` answers
//! is in every later `view`.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    leader,
    machine::{Command, InitCluster, Kind, Outcome, Refusal, RegisterMember},
    model::{ClusterId, Generation, NodeName, Owner, State, UnixMs},
    raft::{DataDirError, Group, JoinError, WriteError},
    transport::Transport,
};

/// First and longest wait between two attempts to propose.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// What a coordinator needs to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it keeps its log and snapshots. Made if it does not exist; belongs to one node alone.
    pub data_dir: PathBuf,
    /// This node's name, stable across restarts.
    pub node: NodeName,
    /// `host:port` of this node's gRPC listener, empty where it has none.
    pub address: String,
    /// Raft's clockwork.
    pub timings: Timings,
    /// How long a proposal may take, retries included.
    pub propose_within: Duration,
}

impl Config {
    /// Everything but what has no default.
    pub fn new(data_dir: impl Into<PathBuf>, node: NodeName) -> Self {
        let (data_dir, address) = (data_dir.into(), String::new());
        Self { data_dir, node, address, timings: Timings::default(), propose_within: Duration::from_secs(10) }
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

/// Why a coordinator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log or the snapshots cannot be opened.
    #[error("the coordinator's log cannot be opened: {0}")]
    Storage(#[from] io::Error),
    /// The cluster could not be founded.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The timings contradict each other.
    #[error("raft timings: {0}")]
    Timings(String),
    /// Raft did not start from what is on disk.
    #[error("raft did not start: {0}")]
    Raft(String),
    /// The state says that this disk is somebody else's.
    #[error("this node cannot join: {0}")]
    Refused(#[from] Refusal),
    /// Snapshots and identity on disk are of two clusters.
    #[error("the data directory was put together from two clusters, {disk} and {state}: restore it from one backup")]
    TwoClusters {
        /// By the identity file.
        disk: ClusterId,
        /// By the state.
        state: ClusterId,
    },
    /// The first proposals did not get through.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// Why a proposal has no outcome. A refusal is an outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader took it in time. Nothing was changed.
    #[error("the coordinator has no leader, try again: {0}")]
    Unavailable(String),
    /// It was handed to the log; whether it will be applied is not known.
    #[error("not known whether the change took place, look before trying again: {0}")]
    Unknown(String),
    /// Raft has stopped on this node.
    #[error("the coordinator on this node has stopped: {0}")]
    Stopped(String),
}

impl ProposeError {
    /// Whether the same proposal may simply be made again here.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Unknown(_) | Self::Stopped(_) => false,
        }
    }
}

/// The coordinator of one node. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    group: Arc<Group>,
    me: Owner,
    propose_within: Duration,
    stop: watch::Sender<bool>,
    leader: Mutex<Option<JoinHandle<()>>>,
}

/// The cluster as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// Raft's term.
    pub term: u64,
    /// The Raft leader, where one is known.
    pub leader: Option<NodeName>,
    /// Raft log index up to which this node has applied.
    pub applied_index: u64,
    /// By name.
    pub members: Vec<MemberStatus>,
}

/// One member of [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its name.
    pub name: NodeName,
    /// Its present generation.
    pub generation: Generation,
    /// `host:port` of its gRPC listener, empty where it has none.
    pub address: String,
    /// Votes in the Raft group.
    pub is_voter: bool,
    /// Leads the Raft group.
    pub is_leader: bool,
}

impl Coordinator {
    /// Opens the data directory, starts Raft, registers this node in its next generation, starts the leader's loop.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let group = Arc::new(Group::open(&config, Transport::plain()).await?);
        if group.is_pristine() {
            group.found(draw()).await?;
        }
        match register(&group, &config).await {
            Ok(generation) => {
                let (me, propose_within) = (Owner { node: config.node, generation }, config.propose_within);
                let stop = watch::Sender::new(false);
                let leader = tokio::spawn(leader::run(group.clone(), propose_within, stop.subscribe()));
                let inner = Inner { group, me, propose_within, stop, leader: Mutex::new(Some(leader)) };
                Ok(Self { inner: Arc::new(inner) })
            }
            Err(error) => {
                // The reason why it did not start is worth more than why it did not stop.
                drop(group.shutdown().await);
                Err(error)
            }
        }
    }

    /// This node's name.
    pub fn node(&self) -> &NodeName {
        &self.inner.me.node
    }

    /// The generation that this start of the node has.
    pub fn generation(&self) -> Generation {
        self.inner.me.generation
    }

    /// This node in this generation, as shards and checkpoints name it.
    pub fn me(&self) -> &Owner {
        &self.inner.me
    }

    /// Proposes a change, stamped with this node's clock, and answers once it is applied here. Tries again while there is no
    /// leader, for [`Config::propose_within`].
    pub async fn propose(&self, kind: impl Into<Kind>) -> Result<Outcome, ProposeError> {
        propose(&self.inner.group, Command { proposed_at: now(), kind: kind.into() }, self.inner.propose_within).await
    }

    /// Reads the state as applied here. Nothing is applied meanwhile, so be quick and do not call back.
    pub fn view<T>(&self, view: impl FnOnce(&State) -> T) -> T {
        self.inner.group.view(view)
    }

    /// As [`view`](Self::view), with the Raft log index that the state stands for.
    pub fn view_at<T>(&self, view: impl FnOnce(&State, u64) -> T) -> T {
        self.inner.group.view_at(view)
    }

    /// Follows the Raft log index up to which this node has applied.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.group.applied()
    }

    /// Turns true when the coordinator is being shut down.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.inner.stop.subscribe()
    }

    /// The cluster as this node sees it.
    pub fn status(&self) -> Status {
        let roles = self.inner.group.roles();
        let on_disk = self.inner.group.identity().cluster_id;
        self.view_at(|state, applied_index| {
            let member = |(name, member): (&NodeName, &crate::model::Member)| MemberStatus {
                name: name.clone(),
                generation: member.generation,
                address: member.address.clone(),
                is_voter: roles.voters.contains(&member.raft_id),
                is_leader: roles.leader == Some(member.raft_id),
            };
            Status {
                cluster_id: on_disk.unwrap_or_else(draw),
                term: roles.term,
                leader: roles.leader_name.clone(),
                applied_index,
                members: state.members.iter().map(member).collect(),
            }
        })
    }

    /// Ends when Raft has stopped by itself, mostly because the disk failed; says why. The node must stop then.
    pub async fn failed(&self) -> String {
        self.inner.group.failed().await
    }

    /// Stops the leader's loop, then Raft, then lets go of the data directory. Watches end. Safe to call twice.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.inner.stop.send_replace(true);
        let leader = self.inner.leader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(leader) = leader {
            leader.await.map_err(io::Error::other)?;
        }
        self.inner.group.shutdown().await
    }
}

/// This machine's clock.
pub fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A new cluster's id: 32 hexadecimal digits, which are a name.
fn draw() -> ClusterId {
    loop {
        if let Ok(id) = format!("{:032x}", rand::random::<u128>()).parse() {
            return id;
        }
    }
}

/// Proposes until the command is applied, the deadline has passed, or Raft has stopped. Tries again only what was certainly
/// not appended.
pub(crate) async fn propose(group: &Group, command: Command, within: Duration) -> Result<Outcome, ProposeError> {
    let deadline = Instant::now() + within;
    let mut wait = RETRY_AFTER.0;
    loop {
        let refused = match group.write(command.clone()).await {
            Ok((outcome, _)) => return Ok(outcome),
            Err(WriteError::Stopped(why)) => return Err(ProposeError::Stopped(why)),
            Err(WriteError::Unknown(why)) => return Err(ProposeError::Unknown(why)),
            Err(error @ (WriteError::NotLeader { .. } | WriteError::Refused(_))) => error,
        };
        if Instant::now() + wait >= deadline {
            return Err(ProposeError::Unavailable(format!("{refused}, for {within:?}")));
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY_AFTER.1);
    }
}

/// The first words of a voter that has just started: the cluster's id if it has none, and that this node is there.
async fn register(group: &Group, config: &Config) -> Result<Generation, StartError> {
    let disk = group.identity().cluster_id.ok_or_else(|| StartError::Raft("this disk is in no cluster".to_owned()))?;
    let propose = |kind: Kind| propose(group, Command { proposed_at: now(), kind }, config.propose_within);
    let register = RegisterMember {
        name: config.node.clone(),
        raft_id: group.identity().raft_id,
        address: config.address.clone(),
        admin_address: config.address.clone(),
    };
    // Before the first answer the state may be older than the log; a refusal then says that the id is there.
    if group.view(|state| state.cluster_id.is_none()) {
        propose(InitCluster { cluster_id: disk.clone() }.into()).await?;
    }
    if let Some(state) = group.view(|state| state.cluster_id.clone()).filter(|id| *id != disk) {
        return Err(StartError::TwoClusters { disk, state });
    }
    match propose(register.into()).await? {
        Outcome::Registered { generation } => Ok(generation),
        Outcome::Refused(refusal) => Err(refusal.into()),
        other => Err(StartError::Raft(format!("registering came to {other:?}"))),
    }
}
