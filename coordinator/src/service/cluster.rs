//! `ClusterService`.

use sluice_proto::admin::v1::{
    BootstrapRequest, BootstrapResponse, GetStatusRequest, GetStatusResponse, Member,
    cluster_service_server::ClusterService,
};
use tonic::{Request, Response, Status};

use crate::{Coordinator, MemberStatus, model::NodeName, wire::admin};

/// See the file's head.
#[derive(Debug)]
pub struct Cluster {
    pub(super) coordinator: Coordinator,
}

impl Cluster {
    /// As applied here; a node that has no copy of the state asks the leader, and shows nobody when there is none.
    async fn members(&self) -> Vec<Member> {
        let status = self.coordinator.status();
        let mut members: Vec<_> = status.members.into_iter().map(member).collect();
        if members.is_empty() && status.is_attached {
            let leader = status.leader;
            let read = self.coordinator.read(|state, _| {
                let member = |(name, member): (&NodeName, &crate::model::Member)| Member {
                    name: name.to_string(),
                    generation: member.generation.0,
                    address: member.address.clone(),
                    is_voter: false,
                    is_leader: leader.as_ref() == Some(name),
                };
                state.members.iter().map(member).collect()
            });
            members = read.await.unwrap_or_default();
        }
        members
    }
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let core = self.coordinator.core();
        let status = self.coordinator.status();
        let (report, mut members) = (core.report().await, self.members().await);
        let leader = status.leader.clone();
        let (voters, learners) =
            report.as_ref().map(|report| admin::peers(report, leader.as_ref())).unwrap_or_default();
        for member in &mut members {
            member.is_voter |= voters.iter().any(|voter| voter.name == member.name);
        }
        let tolerance = report.as_ref().map_or(0, |report| report.failure_tolerance(core.settings.lease));
        let alive = report.as_ref().map_or(0, |report| report.nodes.values().filter(|node| node.is_alive).count());
        Ok(Response::new(GetStatusResponse {
            cluster_id: status.cluster_id.map(|id| id.to_string()).unwrap_or_default(),
            node: self.coordinator.node().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            leader: leader.map(|leader| leader.to_string()).unwrap_or_default(),
            term: status.term,
            applied_index: status.applied_index,
            members,
            voters,
            learners,
            failure_tolerance: u32::try_from(tolerance).unwrap_or(u32::MAX),
            has_quorum: report.is_some(),
            joining: status.joining,
            nodes_alive: u32::try_from(alive).unwrap_or(u32::MAX),
        }))
    }

    async fn bootstrap(&self, request: Request<BootstrapRequest>) -> Result<Response<BootstrapResponse>, Status> {
        let status = self.coordinator.status();
        if let Some(cluster) = status.cluster_id {
            return Err(Status::failed_precondition(format!("this node is in cluster {cluster}")));
        }
        if !request.into_inner().force {
            return Err(Status::failed_precondition(format!(
                "this node waits: {}; by force it founds a cluster all the same, and if another cluster of these nodes exists there are then two",
                status.joining
            )));
        }
        let cluster = self.coordinator.found_by_force().await.map_err(Status::failed_precondition)?;
        Ok(Response::new(BootstrapResponse { cluster_id: cluster.to_string() }))
    }
}

fn member(member: MemberStatus) -> Member {
    Member {
        name: member.name.to_string(),
        generation: member.generation.0,
        address: member.address,
        is_voter: member.is_voter,
        is_leader: member.is_leader,
    }
}
