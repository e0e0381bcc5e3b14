//! The gRPC services of `sluice.admin.v1`: thin, each handler is decode, ask the coordinator, encode.

mod assignments;
mod checkpoints;
mod cluster;
mod nodes;
mod pipelines;
mod status;
mod watch;

use std::sync::Arc;

use sluice_proto::admin::v1::{
    assignment_service_server::AssignmentServiceServer, checkpoint_service_server::CheckpointServiceServer,
    cluster_service_server::ClusterServiceServer, node_service_server::NodeServiceServer,
    pipeline_service_server::PipelineServiceServer,
};
use tonic::Status;

pub use assignments::Assignments;
pub use checkpoints::Checkpoints;
pub use cluster::Cluster;
pub use nodes::Nodes;
pub use pipelines::Pipelines;

use crate::{
    Coordinator,
    model::{InvalidName, NodeName, PipelineName, PipelineSpec, State},
};

/// Checks a manifest, which the coordinator itself does not understand.
pub trait CheckManifest: Send + Sync {
    /// What the manifest declares, or what is wrong with it, where, and what to do.
    fn check(&self, manifest: &str) -> Result<PipelineSpec, String>;
}

/// Pipelines: apply, get, list, pause, resume, delete.
pub fn pipeline_service(
    coordinator: Coordinator,
    manifests: Arc<dyn CheckManifest>,
) -> PipelineServiceServer<Pipelines> {
    PipelineServiceServer::new(Pipelines { coordinator, manifests })
}

/// Assignments: list, watch, move.
pub fn assignment_service(coordinator: Coordinator) -> AssignmentServiceServer<Assignments> {
    AssignmentServiceServer::new(Assignments { coordinator })
}

/// Checkpoints: list.
pub fn checkpoint_service(coordinator: Coordinator) -> CheckpointServiceServer<Checkpoints> {
    CheckpointServiceServer::new(Checkpoints { coordinator })
}

/// Nodes: list, drain, fill, remove.
pub fn node_service(coordinator: Coordinator) -> NodeServiceServer<Nodes> {
    NodeServiceServer::new(Nodes { coordinator })
}

/// The cluster as a whole.
pub fn cluster_service(coordinator: Coordinator) -> ClusterServiceServer<Cluster> {
    ClusterServiceServer::new(Cluster { coordinator })
}

fn name(name: &str) -> Result<PipelineName, Status> {
    name.parse().map_err(|error: InvalidName| status::invalid(error.to_string()))
}

fn node_name(name: &str) -> Result<NodeName, Status> {
    name.parse().map_err(|error: InvalidName| status::invalid(error.to_string()))
}

/// The pipeline that a list is restricted to; empty: none. One that does not exist is an error, lest a typing error look like
/// an empty list.
fn filter(state: &State, wanted: &str) -> Result<Option<PipelineName>, Status> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let wanted = name(wanted)?;
    if state.pipelines.contains_key(&wanted) { Ok(Some(wanted)) } else { Err(status::no_pipeline(&wanted)) }
}
