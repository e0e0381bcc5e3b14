//! `ClusterService`.

use sluice_proto::admin::v1::{
    BootstrapRequest, BootstrapResponse, GetStatusRequest, GetStatusResponse, Member,
    cluster_service_server::ClusterService,
};
use tonic::{Request, Response, Status};

use crate::{
    Coordinator, MemberStatus,
    leader::report::{NodeReport, Report},
    model::NodeName,
    wire::admin,
};

/// See the file's head.
#[derive(Debug)]
pub struct Cluster {
    pub(super) coordinator: Coordinator,
}

impl Cluster {
    /// Those that were not removed, as applied here; on a node that has no copy of the state what the leader reports, and nobody when there
    /// is none.
    fn members(status: &crate::Status, report: Option<&Report>) -> Vec<Member> {
        let reported = |(name, node): (&NodeName, &NodeReport)| Member {
            name: name.to_string(),
            generation: node.generation.0,
            address: node.address.clone(),
            is_voter: false,
            is_leader: status.leader.as_ref() == Some(name),
        };
        if status.members.is_empty() {
            return report.into_iter().flat_map(|report| &report.nodes).map(reported).collect();
        }
        status.members.iter().filter(|member| !member.is_gone).cloned().map(member).collect()
    }
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let core = self.coordinator.core();
        let status = self.coordinator.status();
        let report = core.report().await;
        let mut members = Self::members(&status, report.as_ref());
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
