//! `ClusterService`.

use sluice_proto::admin::v1::{
    BootstrapRequest, BootstrapResponse, GetStatusRequest, GetStatusResponse, Member,
    cluster_service_server::ClusterService,
};
use tonic::{Request, Response, Status};

use crate::{Coordinator, MemberStatus};

/// See the file's head.
#[derive(Debug)]
pub struct Cluster {
    pub(super) coordinator: Coordinator,
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let status = self.coordinator.status();
        let member = |member: MemberStatus| Member {
            name: member.name.to_string(),
            generation: member.generation.0,
            address: member.address,
            is_voter: member.is_voter,
            is_leader: member.is_leader,
        };
        Ok(Response::new(GetStatusResponse {
            cluster_id: status.cluster_id.to_string(),
            node: self.coordinator.node().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            leader: status.leader.map(|leader| leader.to_string()).unwrap_or_default(),
            term: status.term,
            applied_index: status.applied_index,
            members: status.members.into_iter().map(member).collect(),
            ..GetStatusResponse::default()
        }))
    }

    async fn bootstrap(&self, _: Request<BootstrapRequest>) -> Result<Response<BootstrapResponse>, Status> {
        Err(Status::failed_precondition("this node is in a cluster"))
    }
}
