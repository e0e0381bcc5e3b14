//! A coordinator with its services on a loopback port, and clients of them.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use sluice_coordinator::{
    Config, Coordinator,
    model::{PipelineSpec, SourceIdentity},
    service::{CheckManifest, assignment_service, checkpoint_service, cluster_service, pipeline_service},
};
use sluice_proto::admin::v1::{
    self as pb, assignment_service_client::AssignmentServiceClient, checkpoint_service_client::CheckpointServiceClient,
    cluster_service_client::ClusterServiceClient, pipeline_service_client::PipelineServiceClient,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Streaming,
    transport::{Channel, Server},
};

/// Manifests of three words: name, shards, filter.
struct Words;

impl CheckManifest for Words {
    fn check(&self, manifest: &str) -> Result<PipelineSpec, String> {
        let words: Vec<_> = manifest.split(' ').collect();
        let [name, shards, filter] = words[..] else { return Err("want three words".to_owned()) };
        Ok(PipelineSpec {
            name: name.parse().map_err(|error| format!("{error}"))?,
            shards: shards.parse().map_err(|error| format!("{error}"))?,
            source: SourceIdentity {
                servers: vec!["mqtt://localhost".to_owned()],
                share_group: None,
                client_id_prefix: name.to_owned(),
            },
            filters: vec![filter.to_owned()],
            manifest: manifest.to_owned(),
            must_keep_shards: false,
        })
    }
}

/// A running coordinator and its server.
pub(crate) struct Served {
    pub(crate) coordinator: Coordinator,
    channel: Channel,
    server: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Served {
    pub(crate) async fn start(dir: &Path) -> Self {
        let coordinator = Coordinator::start(Config::new(dir, "n1".parse().unwrap())).await.unwrap();
        coordinator.attached().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Server::builder()
            .add_service(pipeline_service(coordinator.clone(), Arc::new(Words)))
            .add_service(assignment_service(coordinator.clone()))
            .add_service(checkpoint_service(coordinator.clone()))
            .add_service(cluster_service(coordinator.clone()));
        let server = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            router.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped).await.unwrap();
        });
        let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
        Self { coordinator, channel, server, stop }
    }

    /// Stops everything in order, and waits for it.
    pub(crate) async fn stop(self) {
        self.coordinator.shutdown().await.unwrap();
        drop(self.channel);
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), self.server).await.expect("the server stops").unwrap();
    }

    pub(crate) fn pipelines(&self) -> PipelineServiceClient<Channel> {
        PipelineServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn apply(&self, manifest: &str) {
        let request = pb::ApplyPipelineRequest { manifest: manifest.to_owned(), dry_run: false };
        self.pipelines().apply_pipeline(request).await.unwrap();
    }

    pub(crate) async fn watch(&self) -> Streaming<pb::WatchAssignmentsResponse> {
        let mut client = AssignmentServiceClient::new(self.channel.clone());
        client.watch_assignments(pb::WatchAssignmentsRequest::default()).await.unwrap().into_inner()
    }

    pub(crate) async fn assignments(&self) -> Vec<pb::Assignment> {
        let mut client = AssignmentServiceClient::new(self.channel.clone());
        client.list_assignments(pb::ListAssignmentsRequest::default()).await.unwrap().into_inner().assignments
    }

    pub(crate) async fn checkpoints(&self) -> Vec<pb::Checkpoint> {
        let mut client = CheckpointServiceClient::new(self.channel.clone());
        client.list_checkpoints(pb::ListCheckpointsRequest::default()).await.unwrap().into_inner().checkpoints
    }

    pub(crate) async fn status(&self) -> pb::GetStatusResponse {
        let mut client = ClusterServiceClient::new(self.channel.clone());
        client.get_status(pb::GetStatusRequest {}).await.unwrap().into_inner()
    }
}

/// Waits until it is so, for 5 seconds.
pub(crate) async fn eventually<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    for _ in 0..500 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to be");
}
