//! The listener for operators: gRPC `sluice.admin.v1` with health and reflection, with TLS and tokens where they are configured.

mod guard;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::middleware::from_fn_with_state;
use sluice_coordinator::{
    Coordinator,
    model::PipelineSpec,
    service::{self, CheckManifest},
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    service::Routes,
    transport::{Error, Identity, Server, ServerTlsConfig},
};

use crate::config::{ClusterName, Credentials, Manifest, Pair};

/// How long answers under way may take when the node stops: a client that reads no more must not hold it.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

/// A client that is gone without a word is noticed after these two together; its watches would list all shards for ever. Not sooner: a
/// client may answer no pings between its calls.
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// Calls at a time on one connection: a watch for each pipeline of a large dashboard, and some.
const STREAMS_MAX: u32 = 256;
/// Who connects and then does not finish the handshake holds a socket and nothing more, and not for long.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// What a manifest that came by gRPC is called where something is wrong with it: `manifest:3: …`.
pub(crate) const MANIFEST: &str = "manifest";

/// A running listener.
#[derive(Debug)]
pub(crate) struct Admin {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), Error>>,
}

impl Admin {
    /// Serves on `listener`.
    ///
    /// # Errors
    /// Certificate and key cannot be used.
    pub(crate) async fn start(
        listener: TcpListener,
        address: SocketAddr,
        coordinator: Coordinator,
        cluster: ClusterName,
        credentials: &Credentials,
    ) -> Result<Self, Error> {
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PING_ANSWERED_WITHIN))
            .max_concurrent_streams(STREAMS_MAX);
        if let Some(pair) = &credentials.admin {
            server = server.tls_config(tls(pair))?;
        }
        let mut routes = routes(coordinator, cluster).await;
        if let Some(tokens) = &credentials.tokens {
            let guarded = from_fn_with_state(Arc::new(tokens.clone()), guard::check);
            routes = routes.into_axum_router().layer(guarded).into();
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = server.add_routes(routes).serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            // A dropped handle stops the server as well.
            let _ = stopped.await;
        });
        Ok(Self { address, stop, server: tokio::spawn(serving) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls. What it returns waits for those under way, watches too, which end with the coordinator. False: some were cut
    /// off.
    pub(crate) fn stop(self) -> impl Future<Output = bool> {
        // A server that has ended by itself needs no word.
        let _ = self.stop.send(());
        async {
            let abort = self.server.abort_handle();
            let is_clean = matches!(timeout(GOODBYE_WITHIN, self.server).await, Ok(Ok(Ok(()))));
            abort.abort();
            is_clean
        }
    }
}

async fn routes(coordinator: Coordinator, cluster: ClusterName) -> Routes {
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
    Routes::new(health_service)
        .add_service(reflection)
        .add_service(service::pipeline_service(coordinator.clone(), Arc::new(Checker { cluster })))
        .add_service(service::assignment_service(coordinator.clone()))
        .add_service(service::checkpoint_service(coordinator.clone()))
        .add_service(service::node_service(coordinator.clone()))
        .add_service(service::cluster_service(coordinator))
}

fn tls(pair: &Pair) -> ServerTlsConfig {
    ServerTlsConfig::new().identity(Identity::from_pem(&pair.cert, pair.key.expose())).timeout(HANDSHAKE_WITHIN)
}

/// Checks manifests for the coordinator, which does not understand them.
struct Checker {
    cluster: ClusterName,
}

impl CheckManifest for Checker {
    fn check(&self, manifest: &str) -> Result<PipelineSpec, String> {
        let manifest = Manifest::parse(manifest, MANIFEST).map_err(|errors| errors.to_string())?;
        Ok(manifest.spec(&self.cluster))
    }
}
