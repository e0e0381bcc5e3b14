//! A blocking client of `sluice.admin.v1`.

use std::time::Duration;

use anyhow::Context as _;
use sluice_proto::admin::v1::{
    ApplyPipelineRequest, ApplyPipelineResponse, Assignment, Checkpoint, DeletePipelineRequest, GetStatusRequest,
    GetStatusResponse, ListAssignmentsRequest, ListCheckpointsRequest, ListPipelinesRequest, PausePipelineRequest,
    Pipeline, ResumePipelineRequest, assignment_service_client::AssignmentServiceClient,
    checkpoint_service_client::CheckpointServiceClient, cluster_service_client::ClusterServiceClient,
    pipeline_service_client::PipelineServiceClient,
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
    /// Connects to a node on 127.0.0.1.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn connect(port: u16) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.timeout(TIMEOUT);
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
