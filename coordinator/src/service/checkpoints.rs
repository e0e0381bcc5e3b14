//! `CheckpointService`.

use sluice_proto::admin::v1::{
    ListCheckpointsRequest, ListCheckpointsResponse, checkpoint_service_server::CheckpointService,
};
use tonic::{Request, Response, Status};

use super::filter;
use crate::{Coordinator, now, wire::admin::checkpoint};

/// See the file's head.
#[derive(Debug)]
pub struct Checkpoints {
    pub(super) coordinator: Coordinator,
}

#[tonic::async_trait]
impl CheckpointService for Checkpoints {
    async fn list_checkpoints(
        &self,
        request: Request<ListCheckpointsRequest>,
    ) -> Result<Response<ListCheckpointsResponse>, Status> {
        let wanted = request.into_inner().pipeline;
        let listed = self.coordinator.read(|state, _| {
            let (pipeline, now) = (filter(state, &wanted)?, now());
            let of =
                state.checkpoints.iter().filter(|(id, _)| pipeline.as_ref().is_none_or(|name| id.pipeline == *name));
            let checkpoints = of.map(|(id, stored)| checkpoint(id, stored, now)).collect();
            Ok(Response::new(ListCheckpointsResponse { checkpoints }))
        });
        listed.await?
    }
}
