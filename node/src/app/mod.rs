//! A node as a whole: what starts in which order, and, in the other order, what stops.
//!
//! Start: certificates and tokens, listeners, coordinator, metrics and admin; then, as soon as the node is attached to a leader,
//! checkpoints, pipelines from files, lanes. Until then `/readyz` says what is waited for.
//! Stop ([`Node::stop`]): not ready any more; the shards are handed over to other nodes; every task that is left delivers what it has in
//! flight, acknowledges it and disconnects; last checkpoints; leadership goes to another; where the stop is for good, the node leaves the
//! cluster; listeners; coordinator.

mod parts;

use std::{convert::Infallible, future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use sluice_coordinator::{Coordinator, StartError, TransportError};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use crate::{
    admin::Admin,
    config::{self, ConfigErrors, Manifest},
    kubernetes::StatefulSet,
    pipeline::checkpoint::Checkpointer,
    pipeline_files::PipelineFiles,
    registry::Registry,
    task::Supervisor,
    telemetry::{http, metrics::NodeMeters},
};

/// What a hand-over may take beyond the delivery of what is in flight: the decision, the word back, and some.
const HANDOVER_MARGIN: Duration = Duration::from_secs(5);

/// What leaving for good may take: an election and a few changes of the voters, one node after the other; less where the stop has taken long
/// already.
const RESIGN_WITHIN: Duration = Duration::from_secs(20);

/// A stop takes at most twice `drain_deadline` and this: Kubernetes is told to wait for so long, and kills then.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// Of that, what listeners and Raft need at the end.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long the apiserver is asked whether a node that stops, or whose disk was removed, is to be there.
const WANTED_WITHIN: Duration = Duration::from_secs(10);
/// Between two such questions, and between two looks at what a stop waits for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a node waits for another process that has its data directory. Kubernetes starts a pod that was deleted by force before it has
/// killed the one before it.
const DATA_DIR_WITHIN: Duration = Duration::from_secs(15);

/// What a proposal under way may still take once every task has said its last word: nobody waits for it.
const PROPOSAL_WITHIN: Duration = Duration::from_millis(500);

/// Why a node did not start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Pipelines in files, certificates or tokens are wrong.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// Certificates of the cluster do not fit together.
    #[error("cluster_tls: {0}")]
    Transport(#[from] TransportError),
    /// Those of the admin listener.
    #[error("admin_tls: certificate and key cannot be used: {0}")]
    AdminTls(#[source] tonic::transport::Error),
    /// An address is taken or not ours.
    #[error("{key}: cannot listen on {address}: {source}; give another address, or stop who has it")]
    Listen {
        /// The setting.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The coordinator.
    #[error("data_dir {}: {source}", path.display())]
    Coordinator {
        /// The data directory.
        path: PathBuf,
        /// Why.
        source: Box<StartError>,
    },
    /// The coordinator has stopped by itself.
    #[error("the node cannot go on: {0}")]
    Failed(String),
    /// Its disk was removed from the cluster.
    #[error("the node cannot go on: {0}")]
    Removed(String),
    /// The system gives no threads or descriptors.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// A pipeline from a file was not taken.
    #[error("pipeline {name}: {why}")]
    Pipeline {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
}

impl Error {
    /// Whether the configuration must be changed before another start makes sense.
    pub fn is_config(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Transport(_) | Self::AdminTls(_) | Self::Pipeline { .. })
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    coordinator: Coordinator,
    registry: Arc<Registry>,
    admin: Admin,
    http: http::Handle,
    stage: watch::Sender<Stage>,
    drain_deadline: Duration,
    data_dir: PathBuf,
    statefulset: Option<StatefulSet>,
    stop_work: watch::Sender<bool>,
    /// None: it has ended by itself.
    work: Option<JoinHandle<Result<bool, Error>>>,
}

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Joining,
    Applying,
    Up,
    Stopping,
}

impl Node {
    /// Starts a node. `config` has been checked; pipelines in its directory are checked here, before anything starts, and where one is wrong
    /// only a node that is part of a cluster starts all the same.
    /// What only one pipeline needs on this node, a secret or a CA file, is looked for when its tasks start: one pipeline's missing
    /// file must not keep the others from running.
    ///
    /// Returns when the node listens; it may then still wait for others to form a cluster with.
    ///
    /// # Errors
    /// What could not be started, and why.
    pub async fn start(config: config::Node) -> Result<Self, Error> {
        let manifests = match config.pipelines_dir.as_deref().map(config::manifests::load_dir) {
            Some(Ok(manifests)) => manifests,
            // The cluster has the pipelines as they were applied last, and needs the node; the files are looked at again once it is up.
            Some(Err(errors)) if sluice_coordinator::is_in_cluster(&config.data_dir) => {
                tracing::error!("pipelines_dir: the node starts with the pipelines that the cluster has: {errors}");
                Vec::new()
            }
            Some(Err(errors)) => return Err(errors.into()),
            None => Vec::new(),
        };
        let credentials = config.credentials()?;
        config.check_data_dir()?;
        let statefulset = StatefulSet::of(&config)?;
        let transport = parts::transport(&credentials)?;
        let admin = listen("admin_listen", config.admin_listen).await?;
        let http = listen("http_listen", config.http_listen).await?;
        let cluster = match config.clustering.listen {
            Some(address) => Some(listen("cluster_listen", address).await?),
            None => None,
        };
        let admin_address = admin.local_addr()?;
        let coordinator = parts::start_coordinator(&config, cluster, admin_address, transport).await?;
        let registry = Arc::new(Registry::default());
        let stage = watch::Sender::new(Stage::Joining);
        let ready = {
            let (coordinator, stage) = (coordinator.clone(), stage.subscribe());
            move || readiness(&coordinator, *stage.borrow())
        };
        let files = PipelineFiles::new(coordinator.clone(), config.cluster.clone());
        let meters = {
            let (coordinator, ready, wrong) = (coordinator.clone(), ready.clone(), files.wrong());
            let statefulset = statefulset.clone();
            move || NodeMeters {
                is_ready: ready().is_ok(),
                has_leader: coordinator.lease().is_valid(),
                pipelines_dir_errors: *wrong.borrow(),
                statefulset_is_unreadable: statefulset.as_ref().map(StatefulSet::is_unreadable),
                overview: coordinator.overview(),
            }
        };
        let shown = http::Config { registry: Arc::clone(&registry), ready: Arc::new(ready), meters: Arc::new(meters) };
        let http = http::Service::start(http, shown).map_err(|error| io::Error::other(error.to_string()))?;
        let admin = Admin::start(admin, admin_address, coordinator.clone(), config.cluster.clone(), &credentials);
        let admin = admin.await.map_err(Error::AdminTls)?;
        tracing::info!(node = %config.name, admin = %admin_address, http = %http.address(), lanes = config.lanes, "node listens");
        let (stop_work, stopped) = watch::channel(false);
        let (drain_deadline, data_dir) = (config.drain_deadline, config.data_dir.clone());
        let work = Work {
            coordinator: coordinator.clone(),
            registry: Arc::clone(&registry),
            stage: stage.clone(),
            config,
            files,
            manifests,
            statefulset: statefulset.clone(),
        };
        let work = Some(tokio::spawn(work.run(stopped)));
        Ok(Self { coordinator, registry, admin, http, stage, drain_deadline, data_dir, statefulset, stop_work, work })
    }

    /// The tasks of this node.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Where gRPC listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Where metrics and health are shown.
    pub fn http_address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Ends when the node runs what it is given, its pipelines from files applied.
    ///
    /// # Errors
    /// As of [`failed`](Self::failed).
    pub async fn up(&mut self) -> Result<(), Error> {
        let mut stage = self.stage.subscribe();
        tokio::select! {
            error = self.failed() => Err(error),
            // The sender is here: this ends only when it is so.
            _ = stage.wait_for(|stage| *stage == Stage::Up) => Ok(()),
        }
    }

    /// Ends when the node cannot go on by itself; says why.
    pub async fn failed(&mut self) -> Error {
        let error = self.failure().await;
        if self.coordinator.is_removed() { Error::Removed(self.coordinator.failed().await) } else { error }
    }

    async fn failure(&mut self) -> Error {
        let Some(work) = &mut self.work else { return std::future::pending().await };
        let ended = tokio::select! {
            why = self.coordinator.failed() => return Error::Failed(why),
            ended = work => ended,
        };
        self.work = None;
        match ended {
            Ok(Err(error)) => error,
            Ok(Ok(_)) => Error::Failed("the supervisor of its tasks has ended; look into the log".to_owned()),
            Err(error) => Error::Failed(format!("the supervisor of its tasks: {error}")),
        }
    }

    /// Of a node that [`failed`](Self::failed): whether only its disk is what it cannot go on with, and the StatefulSet wants the node.
    pub async fn is_wanted_anew(&self, error: &Error) -> bool {
        matches!(error, Error::Removed(_)) && self.is_wanted().await == Some(true)
    }

    /// Ends when the disk of a node that was removed may be thrown away: the cluster does not need its vote.
    pub async fn let_go(&self) {
        self.coordinator.let_go().await;
    }

    /// Stops, and throws the disk away: started again the node is a new member.
    ///
    /// # Errors
    /// The disk cannot be thrown away.
    pub async fn stop_and_discard(self) -> Result<(), Error> {
        let path = self.data_dir.clone();
        self.stop().await;
        tracing::info!(
            data_dir = %path.display(),
            "this node was removed, and the StatefulSet wants it: it comes back as a new member, with an empty disk"
        );
        let dir = path.clone();
        let discarded = spawn_blocking(move || sluice_coordinator::discard(&dir)).await.map_err(io::Error::other)?;
        discarded.map_err(|error| Error::Coordinator { path, source: Box::new(error.into()) })
    }

    /// Whether the StatefulSet has this node; None: there is none to ask, or the apiserver does not say.
    async fn is_wanted(&self) -> Option<bool> {
        let statefulset = self.statefulset.as_ref()?;
        let until = Instant::now() + WANTED_WITHIN;
        loop {
            match statefulset.wants(self.coordinator.node()).await {
                Ok(is_wanted) => return Some(is_wanted),
                Err(error) if Instant::now() >= until => {
                    tracing::warn!(
                        "it is not known whether this node is to be part of the cluster, so it stays as it is: {error}"
                    );
                    return None;
                }
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Before this node stops for a while: where the StatefulSet has fewer replicas than there are members, those beyond must have given their
    /// votes back, or the cluster may be without a quorum until this one is back. A rollout that is stuck on such a one goes on with the next
    /// as soon as it is scaled away.
    async fn wait_until_spared(&self, until: Instant) {
        let Some(statefulset) = &self.statefulset else { return };
        let mut has_unwanted = false;
        while Instant::now() < until {
            has_unwanted |= statefulset.remove_absent(&self.coordinator).await;
            if !has_unwanted || self.coordinator.is_spared().await {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
        tracing::warn!(
            "stops although its vote may be needed: nodes that the StatefulSet does not have any more have not left"
        );
    }

    /// Stops in order. Returns whether nothing was left in flight and everything stopped in time.
    pub async fn stop(mut self) -> bool {
        tracing::info!("node stops: handing over its shards, delivering what is in flight");
        let killed_at = Instant::now() + self.drain_deadline * 2 + STOP_MARGIN;
        let was_attached = matches!(self.stage.send_replace(Stage::Stopping), Stage::Applying | Stage::Up);
        let mut is_for_good = false;
        if was_attached && self.work.is_some() {
            let left = self.coordinator.leave(self.drain_deadline + HANDOVER_MARGIN);
            let ((), is_wanted) = tokio::join!(left, self.is_wanted());
            is_for_good = is_wanted == Some(false);
        }
        self.stop_work.send_replace(true);
        let is_all_delivered = match self.work.take() {
            Some(work) => match work.await {
                Ok(Ok(is_all_delivered)) => Some(is_all_delivered),
                Ok(Err(error)) => {
                    tracing::warn!("{error}");
                    None
                }
                Err(error) => {
                    tracing::error!("the supervisor of its tasks: {error}");
                    Some(false)
                }
            },
            // It had failed, which `failed` has told.
            None => None,
        };
        if was_attached && !is_for_good {
            self.wait_until_spared((Instant::now() + RESIGN_WITHIN).min(killed_at - GOODBYE)).await;
        }
        if was_attached {
            self.coordinator.hand_over_leadership().await;
        }
        if is_for_good {
            let left = killed_at.saturating_duration_since(Instant::now() + GOODBYE);
            match self.coordinator.resign(RESIGN_WITHIN.min(left)).await {
                Ok(()) => tracing::info!("left the cluster for good, as the StatefulSet has fewer replicas now"),
                Err(why) => {
                    tracing::warn!("stops without having left the cluster, whose leader is to remove it: {why}");
                    self.coordinator.hand_over_leadership().await;
                }
            }
        }
        let admin = self.admin.stop();
        // Watches end with the coordinator, and the server with its last watch.
        let mut is_clean = self.coordinator.shutdown().await.is_ok();
        is_clean &= admin.await;
        is_clean &= self.http.stop().await;
        if is_all_delivered != Some(false) {
            tracing::info!(is_clean, "node has stopped");
        } else {
            tracing::warn!(
                "node has stopped and has not delivered all that was in flight: with QoS 1 and 2 the MQTT broker sends that again"
            );
        }
        is_clean && is_all_delivered == Some(true)
    }
}

/// What a node does from when it is attached.
struct Work {
    coordinator: Coordinator,
    registry: Arc<Registry>,
    stage: watch::Sender<Stage>,
    config: config::Node,
    files: PipelineFiles,
    manifests: Vec<Manifest>,
    statefulset: Option<StatefulSet>,
}

impl Work {
    /// Runs until `stop`; returns whether nothing was left in flight.
    async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<bool, Error> {
        let mut stopped = stop.clone();
        let me = tokio::select! {
            me = self.coordinator.attached() => me.map_err(|source| Error::Coordinator {
                path: self.config.data_dir.clone(),
                source: Box::new(source),
            })?,
            _ = stopped.wait_for(|is_stopped| *is_stopped) => return Ok(true),
        };
        tracing::info!(node = %me.node, generation = %me.generation, "node is attached");
        self.advance(Stage::Joining, Stage::Applying);
        tokio::select! {
            applied = self.files.apply(&self.manifests) => applied?,
            _ = stopped.wait_for(|is_stopped| *is_stopped) => return Ok(true),
        }
        let (coordinator, registry) = (self.coordinator.clone(), Arc::clone(&self.registry));
        let (checkpointer, checkpoints) =
            Checkpointer::new(coordinator, me.clone(), registry, self.config.checkpoint_interval);
        let checkpoints = tokio::spawn(checkpoints.run());
        let registry = Arc::clone(&self.registry);
        let supervisor =
            Supervisor::start(parts::supervision(&self.config), &self.coordinator, me, registry, checkpointer)?;
        self.advance(Stage::Applying, Stage::Up);
        let Self { files, config, statefulset, coordinator, .. } = self;
        let mut is_clean = tokio::select! {
            is_clean = supervisor.run(stop.clone()) => is_clean,
            never = files.follow(config.pipelines_dir.as_deref()) => match never {},
            never = follow(statefulset.as_ref(), &coordinator) => match never {},
        };
        // With the supervisor went the last handle.
        let abort = checkpoints.abort_handle();
        is_clean &= !matches!(timeout(PROPOSAL_WITHIN, checkpoints).await, Ok(Err(_)));
        abort.abort();
        // One that ended by itself did so with the coordinator, whose own word of it counts.
        drop(stop.wait_for(|is_stopped| *is_stopped).await);
        Ok(is_clean)
    }

    /// A node that is told to stop meanwhile stays so.
    fn advance(&self, from: Stage, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let is_due = *stage == from;
            if is_due {
                *stage = to;
            }
            is_due
        });
    }
}

async fn follow(statefulset: Option<&StatefulSet>, coordinator: &Coordinator) -> Infallible {
    match statefulset {
        Some(statefulset) => statefulset.follow(coordinator).await,
        None => future::pending().await,
    }
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { key, address, source })
}

fn readiness(coordinator: &Coordinator, stage: Stage) -> Result<(), String> {
    match stage {
        Stage::Joining => Err(match coordinator.status() {
            status if status.joining.is_empty() => "the node is not attached to a leader yet".to_owned(),
            status if status.cluster_id.is_none() => format!("the node is in no cluster yet: {}", status.joining),
            status => status.joining,
        }),
        Stage::Applying => Err("the node's own pipelines are not applied yet".to_owned()),
        Stage::Stopping => Err("the node is stopping".to_owned()),
        Stage::Up if coordinator.lease().is_valid() => Ok(()),
        Stage::Up => Err("the coordinator has no leader, or none that this node reaches: \
                          what runs goes on, and nothing new starts"
            .to_owned()),
    }
}
