//! A blocking client of `sluice.admin.v1`.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use sluice_proto::admin::v1::{
    ApplyPipelineRequest, ApplyPipelineResponse, Assignment, Checkpoint, DeletePipelineRequest, DrainNodeRequest,
    FillNodeRequest, GetStatusRequest, GetStatusResponse, ListAssignmentsRequest, ListCheckpointsRequest,
    ListNodesRequest, ListPipelinesRequest, MoveShardRequest, Node, PausePipelineRequest, Pipeline,
    ResumePipelineRequest, assignment_service_client::AssignmentServiceClient,
    checkpoint_service_client::CheckpointServiceClient, cluster_service_client::ClusterServiceClient,
    node_service_client::NodeServiceClient, pipeline_service_client::PipelineServiceClient,
};
use tokio::runtime::{self, Runtime};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A connected client.
#[derive(Debug)]
pub struct Admin {
    runtime: Runtime,
    channel: Channel,
}

impl Admin {
    /// Connects to a node.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Self::connect_within(address, TIMEOUT)
    }

    /// The same with a bound on connecting and on each call: for nodes that may hang.
    ///
    /// # Errors
    /// It cannot be reached in time.
    pub fn connect_within(address: SocketAddr, timeout: Duration) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.connect_timeout(timeout).timeout(timeout);
        let channel = runtime.block_on(endpoint.connect()).context("connecting to the node's admin services")?;
        Ok(Self { runtime, channel })
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// As the service answers.
    pub fn apply(&self, manifest: &str) -> Result<ApplyPipelineResponse, Status> {
        let request = ApplyPipelineRequest { manifest: manifest.to_owned(), dry_run: false };
        let mut client = PipelineServiceClient::new(self.channel.clone());
        Ok(self.runtime.block_on(client.apply_pipeline(request))?.into_inner())
    }

    /// All pipelines.
    ///
    /// # Errors
    /// As the service answers.
    pub fn pipelines(&self) -> Result<Vec<Pipeline>, Status> {
        let mut client = PipelineServiceClient::new(self.channel.clone());
        Ok(self.runtime.block_on(client.list_pipelines(ListPipelinesRequest {}))?.into_inner().pipelines)
    }

    /// Pauses a pipeline.
    ///
    /// # Errors
    /// As the service answers.
    pub fn pause(&self, name: &str) -> Result<(), Status> {
        let mut client = PipelineServiceClient::new(self.channel.clone());
        self.runtime.block_on(client.pause_pipeline(PausePipelineRequest { name: name.to_owned() }))?;
        Ok(())
    }

    /// Resumes a pipeline.
    ///
    /// # Errors
    /// As the service answers.
    pub fn resume(&self, name: &str) -> Result<(), Status> {
        let mut client = PipelineServiceClient::new(self.channel.clone());
        self.runtime.block_on(client.resume_pipeline(ResumePipelineRequest { name: name.to_owned() }))?;
        Ok(())
    }

    /// Deletes a pipeline, drained unless told to discard.
    ///
    /// # Errors
    /// As the service answers.
    pub fn delete(&self, name: &str, discard: bool) -> Result<(), Status> {
        let mut client = PipelineServiceClient::new(self.channel.clone());
        self.runtime.block_on(client.delete_pipeline(DeletePipelineRequest { name: name.to_owned(), discard }))?;
        Ok(())
    }

    /// All assignments.
    ///
    /// # Errors
    /// As the service answers.
    pub fn assignments(&self) -> Result<Vec<Assignment>, Status> {
        let mut client = AssignmentServiceClient::new(self.channel.clone());
        let request = ListAssignmentsRequest { pipeline: String::new() };
        Ok(self.runtime.block_on(client.list_assignments(request))?.into_inner().assignments)
    }

    /// Starts a planned move of one shard.
    ///
    /// # Errors
    /// As the service answers.
    pub fn move_shard(&self, pipeline: &str, index: u32, node: &str) -> Result<(), Status> {
        let mut client = AssignmentServiceClient::new(self.channel.clone());
        let request = MoveShardRequest { pipeline: pipeline.to_owned(), index, node: node.to_owned() };
        self.runtime.block_on(client.move_shard(request))?;
        Ok(())
    }

    /// All nodes.
    ///
    /// # Errors
    /// As the service answers.
    pub fn nodes(&self) -> Result<Vec<Node>, Status> {
        let mut client = NodeServiceClient::new(self.channel.clone());
        Ok(self.runtime.block_on(client.list_nodes(ListNodesRequest {}))?.into_inner().nodes)
    }

    /// Has a node's shards moved away, and gives it no new ones.
    ///
    /// # Errors
    /// As the service answers.
    pub fn drain(&self, node: &str) -> Result<(), Status> {
        let mut client = NodeServiceClient::new(self.channel.clone());
        self.runtime.block_on(client.drain_node(DrainNodeRequest { name: node.to_owned() }))?;
        Ok(())
    }

    /// Lets a drained node have shards again.
    ///
    /// # Errors
    /// As the service answers.
    pub fn fill(&self, node: &str) -> Result<(), Status> {
        let mut client = NodeServiceClient::new(self.channel.clone());
        self.runtime.block_on(client.fill_node(FillNodeRequest { name: node.to_owned() }))?;
        Ok(())
    }

    /// All checkpoints.
    ///
    /// # Errors
    /// As the service answers.
    pub fn checkpoints(&self) -> Result<Vec<Checkpoint>, Status> {
        let mut client = CheckpointServiceClient::new(self.channel.clone());
        let request = ListCheckpointsRequest { pipeline: String::new() };
        Ok(self.runtime.block_on(client.list_checkpoints(request))?.into_inner().checkpoints)
    }

    /// The cluster.
    ///
    /// # Errors
    /// As the service answers.
    pub fn status(&self) -> Result<GetStatusResponse, Status> {
        let mut client = ClusterServiceClient::new(self.channel.clone());
        Ok(self.runtime.block_on(client.get_status(GetStatusRequest {}))?.into_inner())
    }
}
