//! What an operator asks of any node, one that has no copy of the state among them.

use std::{collections::BTreeMap, time::Duration};

use sluice_coordinator::service::{assignment_service, checkpoint_service, cluster_service, node_service};
use sluice_proto::admin::v1::{
    self as pb, assignment_service_client::AssignmentServiceClient, checkpoint_service_client::CheckpointServiceClient,
    cluster_service_client::ClusterServiceClient, node_service_client::NodeServiceClient,
};
use tonic::{
    Code,
    transport::{Channel, Server, server::TcpIncoming},
};

use crate::support::cluster::{Node, cluster, eventually, is_settled, leader, nodes, shard as shard_of};

/// Serves a node's admin interface on its own runtime.
async fn admin(node: &Node) -> Channel {
    let address = node
        .on(|coordinator| async move {
            let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = incoming.local_addr().unwrap();
            let router = Server::builder()
                .add_service(assignment_service(coordinator.clone()))
                .add_service(checkpoint_service(coordinator.clone()))
                .add_service(node_service(coordinator.clone()))
                .add_service(cluster_service(coordinator));
            tokio::spawn(router.serve_with_incoming(incoming));
            address
        })
        .await;
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn list(channel: &Channel) -> BTreeMap<String, pb::Node> {
    let listed = NodeServiceClient::new(channel.clone()).list_nodes(pb::ListNodesRequest {}).await.unwrap();
    listed.into_inner().nodes.into_iter().map(|node| (node.name.clone(), node)).collect()
}

async fn assignments(channel: &Channel) -> Vec<pb::Assignment> {
    let mut client = AssignmentServiceClient::new(channel.clone());
    client.list_assignments(pb::ListAssignmentsRequest::default()).await.unwrap().into_inner().assignments
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_can_be_asked_of_a_node_outside_the_raft_group() {
    let nodes = cluster(5, 3).await;
    let voters = leader(&nodes).unwrap().voters();
    let outside = nodes.iter().find(|node| !voters.contains(&node.name.to_string())).unwrap();
    let channel = admin(outside).await;
    eventually("it has no copy of the state", || outside.coordinator().status().members.is_empty()).await;
    outside.apply(5).await;
    eventually("every node has one", || is_settled(&nodes, 5) && nodes.iter().all(|node| node.part() == 1)).await;

    let status = ClusterServiceClient::new(channel.clone()).get_status(pb::GetStatusRequest {}).await.unwrap();
    let status = status.into_inner();
    assert_eq!((status.voters.len(), status.learners.len(), status.members.len()), (3, 0, 5));
    assert!(status.has_quorum && status.joining.is_empty() && status.nodes_alive == 5);
    assert_eq!(status.failure_tolerance, 1);
    assert_eq!(status.voters.iter().filter(|voter| voter.is_leader).count(), 1);
    assert!(status.voters.iter().all(|voter| voter.lag_entries.is_some() && voter.last_contact_ms.is_some()));
    assert_eq!(status.leader, leader(&nodes).unwrap().name.as_str());
    assert_eq!(status.members.iter().filter(|member| member.is_voter).count(), 3);

    let listed = list(&channel).await;
    assert_eq!(listed.len(), 5);
    assert!(listed.values().all(|node| node.shards == 1 && node.is_alive == Some(true) && !node.address.is_empty()));
    assert_eq!(listed[outside.name.as_str()].role(), pb::RaftRole::None);
    assert_eq!(listed.values().filter(|node| node.role() == pb::RaftRole::Leader).count(), 1);
    assert_eq!(listed.values().filter(|node| node.role() == pb::RaftRole::Voter).count(), 2);

    let mut checkpoints = CheckpointServiceClient::new(channel.clone());
    let request = pb::ListCheckpointsRequest { pipeline: "nothing".to_owned() };
    assert_eq!(checkpoints.list_checkpoints(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_drained_filled_and_removed_and_a_watch_sees_it() {
    let mut nodes = cluster(4, 3).await;
    let outside = nodes.iter().position(|node| node.coordinator().status().members.is_empty());
    // With four, one may learn besides the three that vote.
    let asked = outside.unwrap_or(3);
    let channel = admin(&nodes[asked]).await;
    nodes[asked].apply(4).await;
    eventually("every node has one", || is_settled(&nodes, 4) && nodes.iter().all(|node| node.part() == 1)).await;

    let mut watch = AssignmentServiceClient::new(channel.clone());
    let mut watch = watch.watch_assignments(pb::WatchAssignmentsRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().changed.len(), 4);

    let mut client = NodeServiceClient::new(channel.clone());
    let out = nodes.iter().position(|node| !node.is_leader() && node.name != nodes[asked].name).unwrap();
    let name = || nodes[out].name.to_string();
    let drained = client.drain_node(pb::DrainNodeRequest { name: name() }).await.unwrap().into_inner().node.unwrap();
    assert_eq!(drained.state(), pb::NodeState::Draining);
    eventually("it is empty", || is_settled(&nodes, 4) && nodes[out].part() == 0).await;
    let moved = async {
        loop {
            let change = watch.message().await.unwrap().unwrap();
            if change.changed.iter().any(|change| change.epoch == 2 && change.node != name()) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), moved).await.expect("the watch tells of the move");
    assert_eq!(list(&channel).await[&name()].shards, 0);

    let filled = client.fill_node(pb::FillNodeRequest { name: name() }).await.unwrap().into_inner().node.unwrap();
    assert_eq!(filled.state(), pb::NodeState::Active);
    eventually("it has one again", || is_settled(&nodes, 4) && nodes[out].part() == 1).await;

    let nobody = pb::DrainNodeRequest { name: "nobody".to_owned() };
    assert_eq!(client.drain_node(nobody).await.unwrap_err().code(), Code::NotFound);
    let remove = |force| pb::RemoveNodeRequest { name: name(), force };
    assert_eq!(client.remove_node(remove(false)).await.unwrap_err().code(), Code::FailedPrecondition);
    let removed = client.remove_node(remove(true)).await.unwrap().into_inner().node.unwrap();
    assert_eq!(removed.state(), pb::NodeState::Gone);
    let gone = name();
    nodes[out].kill();
    eventually("the others have its shard", || is_settled(&nodes, 4)).await;

    // A node that has no copy of the state tells what the leader tells.
    for at in (0..nodes.len()).filter(|at| *at != out) {
        let mut client = ClusterServiceClient::new(admin(&nodes[at]).await);
        let status = client.get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
        assert_eq!(status.members.len(), 3, "{:?}", status.members);
        assert!(status.members.iter().all(|member| member.name != gone), "{:?}", status.members);
        assert!(status.nodes_alive <= 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_node_is_not_removed() {
    let nodes = cluster(1, 1).await;
    let mut client = NodeServiceClient::new(admin(&nodes[0]).await);
    for force in [false, true] {
        let remove = pb::RemoveNodeRequest { name: nodes[0].name.to_string(), force };
        let refused = client.remove_node(remove).await.unwrap_err();
        assert!(refused.code() == Code::FailedPrecondition && refused.message().contains("last"), "{refused}");
    }
    let nobody = pb::RemoveNodeRequest { name: "nobody".to_owned(), force: false };
    assert_eq!(client.remove_node(nobody).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_moved_by_word() {
    let nodes = cluster(3, 3).await;
    let channel = admin(&nodes[1]).await;
    nodes[0].apply(3).await;
    eventually("every node has one", || is_settled(&nodes, 3) && nodes.iter().all(|node| node.part() == 1)).await;
    let shard = assignments(&channel).await.into_iter().next().unwrap();
    let target = nodes.iter().map(|node| node.name.to_string()).find(|name| *name != shard.node).unwrap();
    let mut client = AssignmentServiceClient::new(channel.clone());
    let request = |node: &str| pb::MoveShardRequest {
        pipeline: "readings".to_owned(),
        index: shard.index,
        node: node.to_owned(),
    };
    let moving = client.move_shard(request(&target)).await.unwrap().into_inner().assignment.unwrap();
    assert!(moving.handover_to == target || moving.epoch > shard.epoch, "{moving:?}");
    let target_node = nodes.iter().find(|node| node.name.as_str() == target).unwrap();
    let epoch = shard.epoch;
    eventually("it was there", || {
        target_node.coordinator().view(|state| state.shards[&shard_of(shard.index)].epoch.0 > epoch)
    })
    .await;
    let refused = client.move_shard(request("nobody")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_founded_by_word_and_force() {
    let mut nodes = nodes(3, 3);
    nodes[1].start().await;
    let channel = admin(&nodes[1]).await;
    let mut client = ClusterServiceClient::new(channel);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let status = client.get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert!(status.cluster_id.is_empty() && !status.joining.is_empty() && !status.has_quorum);
    let refused = client.bootstrap(pb::BootstrapRequest { force: false }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let founded = client.bootstrap(pb::BootstrapRequest { force: true }).await.unwrap().into_inner();
    nodes[1].attached().await;
    let status = client.get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.cluster_id, founded.cluster_id);
    assert!(status.has_quorum && status.joining.is_empty());
    let again = client.bootstrap(pb::BootstrapRequest { force: true }).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
}
