//! `AssignmentService`.

use futures::stream::BoxStream;
use sluice_proto::admin::v1::{
    ListAssignmentsRequest, ListAssignmentsResponse, MoveShardRequest, MoveShardResponse, WatchAssignmentsRequest,
    WatchAssignmentsResponse, assignment_service_server::AssignmentService,
};
use tonic::{Request, Response, Status};

use super::{filter, name, node_name, status, watch};
use crate::{
    Coordinator,
    machine::{Outcome, StartMoves},
    model::ShardId,
    wire::admin::assignment,
};

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
        let listed = self.coordinator.read(|state, _| {
            let pipeline = filter(state, &wanted)?;
            let assignments = watch::list(state, pipeline.as_ref()).into_values().collect();
            Ok(Response::new(ListAssignmentsResponse { assignments }))
        });
        listed.await?
    }

    async fn watch_assignments(
        &self,
        request: Request<WatchAssignmentsRequest>,
    ) -> Result<Response<Self::WatchAssignmentsStream>, Status> {
        let wanted = request.into_inner().pipeline;
        let pipeline = self.coordinator.read(|state, _| filter(state, &wanted)).await??;
        Ok(Response::new(Box::pin(watch::changes(&self.coordinator, pipeline))))
    }

    async fn move_shard(&self, request: Request<MoveShardRequest>) -> Result<Response<MoveShardResponse>, Status> {
        let MoveShardRequest { pipeline, index, node } = request.into_inner();
        let (shard, node) = (ShardId::new(&name(&pipeline)?, index), node_name(&node)?);
        let moves = StartMoves { moves: vec![(shard.clone(), node)] };
        match self.coordinator.propose(moves).await? {
            Outcome::Moves { .. } => {}
            other => return Err(status::unexpected(other)),
        }
        let moved = self.coordinator.read(|state, _| {
            let now = state.shards.get(&shard)?;
            Some((assignment(state, &shard, now), now.owner.is_some()))
        });
        let moved = moved.await?;
        if let Some((_, false)) = moved {
            return Err(Status::failed_precondition(format!(
                "no node has {shard}, so there is nothing to move: its pipeline is paused, or no node takes shards"
            )));
        }
        Ok(Response::new(MoveShardResponse { assignment: moved.map(|(assignment, _)| assignment) }))
    }
}
