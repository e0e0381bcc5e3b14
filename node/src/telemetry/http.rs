//! The HTTP listener: `/metrics`, `/healthz`, `/readyz`.
//!
//! `/healthz` answers as long as the process serves requests: a restart mends nothing that Kafka, MQTT or a quorum lack.
//! `/readyz` says whether the node does its work, and if not, why.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::metrics::{self, Meters, Metrics};
use crate::registry::Registry;

/// How long a stop waits for answers under way. A scrape takes milliseconds; a client that hangs must not hold a drain.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// Says whether the node does its work.
pub trait Ready: Send + Sync + 'static {
    /// `Err` with the reason, in words for an operator, while it does not.
    fn ready(&self) -> Result<(), String>;
}

impl<F: Fn() -> Result<(), String> + Send + Sync + 'static> Ready for F {
    fn ready(&self) -> Result<(), String> {
        self()
    }
}

/// What the listener shows.
pub struct Config {
    /// The tasks of this node.
    pub registry: Arc<Registry>,
    /// Asked at every `/readyz`.
    pub ready: Arc<dyn Ready>,
    /// Read at every `/metrics`.
    pub meters: Arc<dyn Meters>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// The listener, not yet running.
#[derive(Debug)]
pub struct Service {
    listener: TcpListener,
    router: Router,
    stop: oneshot::Receiver<()>,
}

/// The listener cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("HTTP listener: {0}")]
pub struct Error(#[from] io::Error);

/// A running listener.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Service {
    /// Serves `config` on `listener` until the handle stops it.
    pub fn start(listener: TcpListener, config: Config) -> Result<Handle, Error> {
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let service = Self { listener, router: router(config), stop: stopped };
        Ok(Handle { address, stop, task: tokio::spawn(service.run()) })
    }

    async fn run(self) -> io::Result<()> {
        let stopped = async {
            // A dropped handle stops the listener as well.
            let _ = self.stop.await;
        };
        axum::serve(self.listener, self.router).with_graceful_shutdown(stopped).await
    }
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and lets answers under way finish. False: some were cut off at the deadline, or the listener had failed.
    pub async fn stop(self) -> bool {
        let _ = self.stop.send(());
        let abort = self.task.abort_handle();
        let clean = matches!(tokio::time::timeout(STOP_DEADLINE, self.task).await, Ok(Ok(Ok(()))));
        abort.abort();
        clean
    }
}

#[derive(Clone)]
struct Shown {
    metrics: Arc<Metrics>,
    ready: Arc<dyn Ready>,
}

fn router(config: Config) -> Router {
    let shown = Shown { metrics: Arc::new(Metrics::new(config.registry, config.meters)), ready: config.ready };
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(show_ready))
        .with_state(shown)
}

async fn show_metrics(State(shown): State<Shown>) -> Response {
    match shown.metrics.scrape() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {error}\n")).into_response(),
    }
}

async fn show_ready(State(shown): State<Shown>) -> Response {
    match shown.ready.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;
    use crate::telemetry::metrics::NodeMeters;

    async fn start(ready: impl Ready) -> anyhow::Result<Handle> {
        let meters = || NodeMeters {
            is_ready: true,
            has_leader: false,
            pipelines_dir_errors: 2,
            statefulset_is_unreadable: Some(true),
            overview: None,
        };
        let config = Config { registry: Arc::default(), ready: Arc::new(ready), meters: Arc::new(meters) };
        Ok(Service::start(TcpListener::bind("127.0.0.1:0").await?, config)?)
    }

    async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn metrics_carry_the_openmetrics_content_type() -> anyhow::Result<()> {
        let handle = start(|| Ok(())).await?;
        let answer = get(handle.address(), "/metrics").await?;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(&format!("content-type: {}\r\n", metrics::CONTENT_TYPE)), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
        assert!(answer.contains("\nsluice_node_ready 1\n") && answer.contains("\nsluice_raft_leader 0\n"), "{answer}");
        assert!(answer.contains("\nsluice_node_has_leader 0\n"), "{answer}");
        assert!(answer.contains("\nsluice_statefulset_unreadable 1\n"), "{answer}");
        assert!(answer.contains("\nsluice_pipelines_dir_errors 2\n") && !answer.contains("sluice_nodes"), "{answer}");
        assert!(handle.stop().await);
        Ok(())
    }

    #[tokio::test]
    async fn a_node_that_is_not_ready_says_why_and_is_healthy() -> anyhow::Result<()> {
        let handle = start(|| Err("no leader is known".to_owned())).await?;
        let answer = get(handle.address(), "/readyz").await?;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("no leader is known\n"), "{answer}");
        let answer = get(handle.address(), "/healthz").await?;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(handle.stop().await);
        Ok(())
    }

    #[tokio::test]
    async fn a_listener_that_failed_is_no_clean_stop() -> anyhow::Result<()> {
        for task in [tokio::spawn(async { Err(io::Error::other("gone")) }), tokio::spawn(async { panic!("gone") })] {
            let handle = Handle { task, stop: oneshot::channel().0, ..start(|| Ok(())).await? };
            assert!(!handle.stop().await);
        }
        Ok(())
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_a_stop() -> anyhow::Result<()> {
        let handle = start(|| Ok(())).await?;
        let address = handle.address();
        let _idle = TcpStream::connect(address).await?;
        let stopping = std::time::Instant::now();
        handle.stop().await;
        assert!(stopping.elapsed() < STOP_DEADLINE * 2);
        assert!(TcpStream::connect(address).await.is_err());
        Ok(())
    }
}
