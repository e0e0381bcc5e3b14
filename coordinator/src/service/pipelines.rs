//! `PipelineService`.

use std::{fmt, sync::Arc};

use sluice_proto::admin::v1::{
    ApplyPipelineRequest, ApplyPipelineResponse, DeletePipelineRequest, DeletePipelineResponse, GetPipelineRequest,
    GetPipelineResponse, ListPipelinesRequest, ListPipelinesResponse, PausePipelineRequest, PausePipelineResponse,
    ResumePipelineRequest, ResumePipelineResponse, pipeline_service_server::PipelineService,
};
use tonic::{Request, Response, Status};

use super::{CheckManifest, name, status};
use crate::{
    Coordinator,
    machine::{self, ApplyPipeline, Command, DeletePipeline, Kind, PausePipeline, ResumePipeline},
    model::Pipeline,
    now,
};

/// Longest manifest, in bytes: a hundred times what a long one needs, and well below a gRPC message and a log entry.
pub(super) const MANIFEST_BYTES_MAX: usize = 256 << 10;

const PAUSED: &str =
    "the MQTT broker queues for the paused pipeline, and its queue fills: beyond its bound it drops readings";

/// See the file's head.
pub struct Pipelines {
    pub(super) coordinator: Coordinator,
    pub(super) manifests: Arc<dyn CheckManifest>,
}

impl Pipelines {
    async fn change(&self, kind: impl Into<Kind>) -> Result<(Pipeline, bool), Status> {
        status::pipeline(self.coordinator.propose(kind).await?)
    }

    /// What a command would come to, on a copy of the state.
    async fn rehearse(&self, kind: impl Into<Kind>) -> Result<(Pipeline, bool), Status> {
        let kind = kind.into();
        let mut state = self.coordinator.read(|state, _| state.clone()).await?;
        status::pipeline(machine::apply(&mut state, Command { proposed_at: now(), kind }))
    }
}

#[tonic::async_trait]
impl PipelineService for Pipelines {
    async fn apply_pipeline(
        &self,
        request: Request<ApplyPipelineRequest>,
    ) -> Result<Response<ApplyPipelineResponse>, Status> {
        let ApplyPipelineRequest { manifest, dry_run } = request.into_inner();
        if manifest.len() > MANIFEST_BYTES_MAX {
            return Err(status::invalid(format!(
                "the manifest has {} bytes; at most {MANIFEST_BYTES_MAX}",
                manifest.len()
            )));
        }
        let spec = self.manifests.check(&manifest).map_err(status::invalid)?;
        let apply = ApplyPipeline { spec };
        let (pipeline, changed) = if dry_run { self.rehearse(apply).await? } else { self.change(apply).await? };
        Ok(Response::new(ApplyPipelineResponse { pipeline: Some((&pipeline).into()), changed }))
    }

    async fn get_pipeline(
        &self,
        request: Request<GetPipelineRequest>,
    ) -> Result<Response<GetPipelineResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        let pipeline = self.coordinator.read(|state, _| state.pipelines.get(&name).map(Into::into)).await?;
        let pipeline = Some(pipeline.ok_or_else(|| status::no_pipeline(&name))?);
        Ok(Response::new(GetPipelineResponse { pipeline }))
    }

    async fn list_pipelines(
        &self,
        _: Request<ListPipelinesRequest>,
    ) -> Result<Response<ListPipelinesResponse>, Status> {
        let pipelines = self.coordinator.read(|state, _| state.pipelines.values().map(Into::into).collect()).await?;
        Ok(Response::new(ListPipelinesResponse { pipelines }))
    }

    async fn pause_pipeline(
        &self,
        request: Request<PausePipelineRequest>,
    ) -> Result<Response<PausePipelineResponse>, Status> {
        let (pipeline, _) = self.change(PausePipeline { name: name(&request.into_inner().name)? }).await?;
        Ok(Response::new(PausePipelineResponse { pipeline: Some((&pipeline).into()), notice: PAUSED.to_owned() }))
    }

    async fn resume_pipeline(
        &self,
        request: Request<ResumePipelineRequest>,
    ) -> Result<Response<ResumePipelineResponse>, Status> {
        let (pipeline, _) = self.change(ResumePipeline { name: name(&request.into_inner().name)? }).await?;
        Ok(Response::new(ResumePipelineResponse { pipeline: Some((&pipeline).into()) }))
    }

    async fn delete_pipeline(
        &self,
        request: Request<DeletePipelineRequest>,
    ) -> Result<Response<DeletePipelineResponse>, Status> {
        let DeletePipelineRequest { name: wanted, discard } = request.into_inner();
        let (pipeline, _) = self.change(DeletePipeline { name: name(&wanted)?, discard }).await?;
        Ok(Response::new(DeletePipelineResponse { pipeline: Some((&pipeline).into()) }))
    }
}

impl fmt::Debug for Pipelines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipelines").field("coordinator", &self.coordinator).finish_non_exhaustive()
    }
}
