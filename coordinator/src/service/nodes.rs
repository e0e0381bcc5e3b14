//! `NodeService`.

use sluice_proto::admin::v1::{
    DrainNodeRequest, DrainNodeResponse, FillNodeRequest, FillNodeResponse, ListNodesRequest, ListNodesResponse, Node,
    RemoveNodeRequest, RemoveNodeResponse, node_service_server::NodeService,
};
use tonic::{Request, Response, Status};

use super::{node_name, status};
use crate::{
    Coordinator,
    machine::{Kind, Outcome, RemoveMember, SetMemberState},
    model::{MemberState, NodeName, State},
    wire::admin,
};

/// See the file's head.
#[derive(Debug)]
pub struct Nodes {
    pub(super) coordinator: Coordinator,
}

impl Nodes {
    async fn list(&self) -> Result<Vec<Node>, Status> {
        let core = self.coordinator.core();
        let (report, leader) = (core.report().await, core.leader_name());
        Ok(self.coordinator.read(|state, _| admin::nodes(state, report.as_ref(), leader.as_ref())).await?)
    }

    async fn change(&self, name: &NodeName, kind: impl Into<Kind>) -> Result<Option<Node>, Status> {
        match self.coordinator.propose(kind).await? {
            Outcome::Member { .. } => {}
            other => return Err(status::unexpected(other)),
        }
        let node = self.list().await?.into_iter().find(|node| node.name == name.as_str());
        Ok(Some(node.ok_or_else(|| status::no_node(name))?))
    }
}

#[tonic::async_trait]
impl NodeService for Nodes {
    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        Ok(Response::new(ListNodesResponse { nodes: self.list().await? }))
    }

    async fn drain_node(&self, request: Request<DrainNodeRequest>) -> Result<Response<DrainNodeResponse>, Status> {
        let name = node_name(&request.into_inner().name)?;
        let drain = SetMemberState { name: name.clone(), state: MemberState::Draining, generation: None };
        Ok(Response::new(DrainNodeResponse { node: self.change(&name, drain).await? }))
    }

    async fn fill_node(&self, request: Request<FillNodeRequest>) -> Result<Response<FillNodeResponse>, Status> {
        let name = node_name(&request.into_inner().name)?;
        let fill = SetMemberState { name: name.clone(), state: MemberState::Active, generation: None };
        Ok(Response::new(FillNodeResponse { node: self.change(&name, fill).await? }))
    }

    async fn remove_node(&self, request: Request<RemoveNodeRequest>) -> Result<Response<RemoveNodeResponse>, Status> {
        let RemoveNodeRequest { name, force } = request.into_inner();
        let name = node_name(&name)?;
        // Asked here and not where it is applied: `cluster recover` removes all but the node that it recovers.
        let is_last = |state: &State, _| {
            state.members.contains_key(&name)
                && !state.members.iter().any(|(other, member)| *other != name && member.state != MemberState::Gone)
        };
        if self.coordinator.read(is_last).await? {
            return Err(Status::failed_precondition(format!(
                "node {name} is the last of its cluster, which would be gone with it: to end the cluster stop the node and throw its data directory away"
            )));
        }
        let remove = RemoveMember { name: name.clone(), force, generation: None };
        Ok(Response::new(RemoveNodeResponse { node: self.change(&name, remove).await? }))
    }
}
