//! A node as a whole: what starts in which order, and, in the other order, what stops.
//!
//! Start: coordinator, checkpoints, lanes, pipelines from files, listeners. A node that cannot do one of these starts nothing after it.
//! Stop ([`Node::stop`]): not ready any more; every task delivers what it has in flight, acknowledges it and disconnects; last
//! checkpoints; listeners; coordinator.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use sluice_coordinator::{
    Config as CoordinatorConfig, Coordinator, ProposeError, StartError,
    machine::{ApplyPipeline, Outcome},
    model::PipelineSpec,
    service::{self, CheckManifest},
};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::{
    config::{self, ClusterName, ConfigErrors, Manifest},
    pipeline::checkpoint::Checkpointer,
    registry::Registry,
    task::{self, Supervisor},
    telemetry::http,
};

/// How long answers under way may take when the node stops: a client that reads no more must not hold it.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Pipelines in files are wrong.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
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

/// A running node.
#[derive(Debug)]
pub struct Node {
    coordinator: Coordinator,
    registry: Arc<Registry>,
    admin: SocketAddr,
    http: http::Handle,
    is_stopping: watch::Sender<bool>,
    supervisor: JoinHandle<bool>,
    checkpoints: JoinHandle<()>,
    stop_admin: oneshot::Sender<()>,
    admin_server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Node {
    /// Starts a node. `config` has been checked; pipelines in its directory are checked here, before anything starts.
    /// What only one pipeline needs on this node, a secret or a CA file, is looked for when its tasks start: one pipeline's missing
    /// file must not keep the others from running.
    ///
    /// # Errors
    /// What could not be started, and why.
    pub async fn start(config: config::Node) -> Result<Self, Error> {
        let manifests = match &config.pipelines_dir {
            Some(dir) => config::manifests::load_dir(dir)?,
            None => Vec::new(),
        };
        let admin = listen("admin_listen", config.admin_listen).await?;
        let http = listen("http_listen", config.http_listen).await?;
        let admin_address = admin.local_addr()?;
        let coordinator = start_coordinator(&config, admin_address).await?;
        let registry = Arc::new(Registry::default());
        let (checkpointer, checkpoints) =
            Checkpointer::new(coordinator.clone(), Arc::clone(&registry), config.checkpoint_interval);
        let checkpoints = tokio::spawn(checkpoints.run());
        apply_all(&coordinator, &config.cluster, &manifests).await?;
        let supervisor =
            Supervisor::start(supervision(&config), coordinator.clone(), Arc::clone(&registry), checkpointer)?;
        let (is_stopping, stop) = watch::channel(false);
        let supervisor = tokio::spawn(supervisor.run(stop.clone()));
        let (stop_admin, admin_stopped) = oneshot::channel();
        let admin_server = tokio::spawn(serve_admin(admin, coordinator.clone(), config.cluster.clone(), admin_stopped));
        let ready = {
            let coordinator = coordinator.clone();
            move || readiness(&coordinator, *stop.borrow())
        };
        let shown = http::Config { registry: Arc::clone(&registry), ready: Arc::new(ready) };
        let http = http::Service::start(http, shown).map_err(|error| io::Error::other(error.to_string()))?;
        tracing::info!(node = %config.name, admin = %admin_address, http = %http.address(), lanes = config.lanes, "node is up");
        Ok(Self {
            coordinator,
            registry,
            admin: admin_address,
            http,
            is_stopping,
            supervisor,
            checkpoints,
            stop_admin,
            admin_server,
        })
    }

    /// The tasks of this node.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Where gRPC listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Where metrics and health are shown.
    pub fn http_address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Ends when the node cannot go on by itself; says why.
    pub async fn failed(&self) -> String {
        self.coordinator.failed().await
    }

    /// Stops in order. Returns whether nothing was left in flight and everything stopped in time.
    pub async fn stop(self) -> bool {
        tracing::info!("node stops: delivering what is in flight");
        self.is_stopping.send_replace(true);
        let mut is_clean = self.supervisor.await.unwrap_or(false);
        // With the supervisor went the last handle.
        is_clean &= self.checkpoints.await.is_ok();
        // A server that has ended by itself needs no word.
        let _ = self.stop_admin.send(());
        // Watches end with the coordinator, and the server with its last watch.
        is_clean &= self.coordinator.shutdown().await.is_ok();
        let abort = self.admin_server.abort_handle();
        is_clean &= matches!(timeout(GOODBYE_WITHIN, self.admin_server).await, Ok(Ok(Ok(()))));
        abort.abort();
        is_clean &= self.http.stop().await;
        tracing::info!(is_clean, "node has stopped");
        is_clean
    }
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { key, address, source })
}

async fn start_coordinator(config: &config::Node, admin: SocketAddr) -> Result<Coordinator, Error> {
    let path = config.data_dir.clone();
    let mut coordinator = CoordinatorConfig::new(&path, config.name.clone());
    coordinator.admin_address = admin.to_string();
    let failed = |source: StartError| Error::Coordinator { path: path.clone(), source: Box::new(source) };
    let coordinator = Coordinator::start(coordinator).await.map_err(failed)?;
    if let Err(error) = coordinator.attached().await {
        // The reason why it did not start is worth more than why it did not stop.
        drop(coordinator.shutdown().await);
        return Err(failed(error));
    }
    Ok(coordinator)
}

fn supervision(config: &config::Node) -> task::Config {
    task::Config {
        lanes: config.lanes.get(),
        in_flight: config.in_flight,
        secret_roots: config.secret_roots.clone(),
        drain_deadline: config.drain_deadline,
    }
}

async fn apply_all(coordinator: &Coordinator, cluster: &ClusterName, manifests: &[Manifest]) -> Result<(), Error> {
    for manifest in manifests {
        let refused = |why: String| Error::Pipeline { name: manifest.name.to_string(), why };
        let outcome = coordinator.propose(ApplyPipeline { spec: manifest.spec(cluster) }).await;
        match outcome.map_err(|error: ProposeError| refused(error.to_string()))? {
            Outcome::Pipeline { pipeline, changed } => {
                tracing::info!(pipeline = %manifest.name, revision = %pipeline.revision, changed, "pipeline applied from file");
            }
            // What was there goes on: one pipeline that cannot be changed now must not keep the others from running.
            Outcome::Refused(refusal) => {
                tracing::error!(pipeline = %manifest.name, "not applied from file: {}", refusal.message);
            }
            other => return Err(refused(format!("{other:?}"))),
        }
    }
    Ok(())
}

fn readiness(coordinator: &Coordinator, is_stopping: bool) -> Result<(), String> {
    if is_stopping {
        return Err("the node is stopping".to_owned());
    }
    match coordinator.status().leader {
        Some(_) => Ok(()),
        None => Err("the coordinator has no leader".to_owned()),
    }
}

async fn serve_admin(
    listener: TcpListener,
    coordinator: Coordinator,
    cluster: ClusterName,
    stopped: oneshot::Receiver<()>,
) -> Result<(), tonic::transport::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(sluice_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    let reflection = match reflection {
        Ok(reflection) => reflection,
        // The set is compiled in: this cannot differ from one start to the next.
        Err(error) => unreachable!("the compiled-in descriptors are sound: {error}"),
    };
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    Server::builder()
        .add_service(health_service)
        .add_service(reflection)
        .add_service(service::pipeline_service(coordinator.clone(), Arc::new(Checker { cluster })))
        .add_service(service::assignment_service(coordinator.clone()))
        .add_service(service::checkpoint_service(coordinator.clone()))
        .add_service(service::node_service(coordinator.clone()))
        .add_service(service::cluster_service(coordinator))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            // A dropped handle stops the server as well.
            let _ = stopped.await;
        })
        .await
}

/// Checks manifests for the coordinator, which does not understand them.
struct Checker {
    cluster: ClusterName,
}

impl CheckManifest for Checker {
    fn check(&self, manifest: &str) -> Result<PipelineSpec, String> {
        let manifest = Manifest::parse(manifest, "manifest").map_err(|errors| errors.to_string())?;
        Ok(manifest.spec(&self.cluster))
    }
}
