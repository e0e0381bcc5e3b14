//! `AssignmentService`.

use futures::stream::BoxStream;
use sluice_proto::admin::v1::{
    ListAssignmentsRequest, ListAssignmentsResponse, MoveShardRequest, MoveShardResponse, WatchAssignmentsRequest,
    WatchAssignmentsResponse, assignment_service_server::AssignmentService,
};
use tonic::{Request, Response, Status};

use super::{filter, watch};
use crate::Coordinator;

/// See the file's head.
#[derive(Debug)]
pub struct Assignments {
    pub(super) coordinator: Coordinator,
}

#[tonic::async_trait]
impl AssignmentService for Assignments {
    type WatchAssignmentsStream = BoxStream<'static, Result<WatchAssignmentsResponse, Status>>;

    async fn list_assignments(
        &self,
        request: Request<ListAssignmentsRequest>,
    ) -> Result<Response<ListAssignmentsResponse>, Status> {
        let wanted = request.into_inner().pipeline;
        self.coordinator.view(|state| {
            let pipeline = filter(state, &wanted)?;
            let assignments = watch::list(state, pipeline.as_ref()).into_values().collect();
            Ok(Response::new(ListAssignmentsResponse { assignments }))
        })
    }

    async fn watch_assignments(
        &self,
        request: Request<WatchAssignmentsRequest>,
    ) -> Result<Response<Self::WatchAssignmentsStream>, Status> {
        let wanted = request.into_inner().pipeline;
        let pipeline = self.coordinator.view(|state| filter(state, &wanted))?;
        Ok(Response::new(Box::pin(watch::changes(&self.coordinator, pipeline))))
    }

    async fn move_shard(&self, _: Request<MoveShardRequest>) -> Result<Response<MoveShardResponse>, Status> {
        Err(Status::failed_precondition("a cluster of one node has nowhere to move a shard to"))
    }
}
