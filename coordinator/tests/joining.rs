//! How nodes become one cluster, and never two.

use std::{net::TcpListener, time::Duration};

use sluice_coordinator::{Config, Coordinator, Rejection, StartError};
use sluice_proto::cluster::v1::{ProbeRequest, ReportRequest, node_service_client::NodeServiceClient};
use tokio::time::{sleep, timeout};
use tonic::{Code, transport::Channel};

use crate::support::cluster::{Node, cluster, eventually, leader, nodes};

/// Long enough for a node that is mistaken to act.
const A_WHILE: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_started_at_once_make_one_cluster() {
    for _ in 0..3 {
        let mut nodes = nodes(2, 5);
        nodes[1].plan.may_found = true;
        let [first, second] = &mut nodes[..] else { panic!() };
        tokio::join!(first.start(), second.start());
        for node in &nodes {
            assert_eq!(node.attached().await.generation.0, 1);
        }
        assert!(nodes[0].cluster_id().is_some());
        assert_eq!(nodes[0].cluster_id(), nodes[1].cluster_id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_founder_waits_for_its_cluster_and_joins_it() {
    let mut nodes = cluster(3, 5).await;
    let before = nodes[0].cluster_id().unwrap();
    let raft_id = nodes[0].coordinator().view(|state| state.members[&nodes[0].name].raft_id);
    nodes.iter_mut().for_each(Node::kill);
    nodes[0].wipe();
    nodes[0].start().await;
    // Its peers are down.
    sleep(A_WHILE).await;
    assert!(nodes[0].cluster_id().is_none());
    assert!(nodes[0].coordinator().status().joining.contains("no answer"));
    // One of them is there and says nothing.
    let slow = loop {
        if let Ok(listener) = TcpListener::bind(&nodes[1].address) {
            break listener;
        }
        sleep(Duration::from_millis(20)).await;
    };
    sleep(A_WHILE).await;
    assert!(nodes[0].cluster_id().is_none());
    drop(slow);
    nodes[1].start().await;
    nodes[2].start().await;
    for node in &nodes {
        assert_eq!(node.attached().await.generation.0, 2);
        assert_eq!(node.cluster_id(), Some(before.clone()));
    }
    let is_replaced = || {
        leader(&nodes).is_some_and(|leader| {
            let now = leader.coordinator().view(|state| state.members[&nodes[0].name].raft_id);
            now != raft_id && leader.voters().len() == 3
        })
    };
    eventually("the new disk has the old one's vote", is_replaced).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_waits_founds_by_force_only() {
    let mut nodes = nodes(3, 5);
    nodes[1].start().await;
    sleep(A_WHILE).await;
    assert!(nodes[1].cluster_id().is_none());
    let cluster = nodes[1].on(|c| async move { c.found_by_force().await }).await.unwrap();
    nodes[1].attached().await;
    assert_eq!(nodes[1].cluster_id(), Some(cluster));
    assert!(nodes[1].on(|c| async move { c.found_by_force().await }).await.is_err());
    // Who may found finds that there is one.
    nodes[0].start().await;
    nodes[0].attached().await;
    assert_eq!(nodes[0].cluster_id(), nodes[1].cluster_id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_is_refused_from_both_sides() {
    let (mut ours, theirs) = tokio::join!(cluster(1, 5), cluster(1, 5));
    let (here, there) = (ours[0].cluster_id().unwrap(), theirs[0].cluster_id().unwrap());
    let address = format!("http://{}", theirs[0].address);
    let mut client = NodeServiceClient::new(Channel::from_shared(address).unwrap().connect().await.unwrap());
    let request = ReportRequest { cluster_id: here.to_string() };
    let refused = client.report(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains(here.as_str()) && refused.message().contains(there.as_str()));
    let answer = client.probe(ProbeRequest::default()).await.unwrap().into_inner();
    assert_eq!((answer.cluster_id, answer.is_pristine), (there.to_string(), false));

    // A disk of a cluster of two, whose other node is now of another one.
    let mut joined = Node::new("n-1", ours[0].plan.clone());
    joined.plan.may_found = false;
    joined.start().await;
    joined.attached().await;
    joined.kill();
    ours[0].kill();
    joined.plan.seeds.clone_from(&theirs[0].plan.seeds);
    joined.start().await;
    let attached = timeout(Duration::from_secs(20), joined.on(|c| async move { c.attached().await })).await.unwrap();
    let Err(StartError::Refused(Rejection::WrongCluster { disk, theirs: named })) = attached else {
        panic!("{attached:?}");
    };
    assert_eq!((disk, named), (here, there));
    assert!(theirs[0].coordinator().view(|state| !state.members.contains_key(&joined.name)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_put_together_from_two_clusters_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let start = async || Coordinator::start(Config::new(dir.path(), "n-0".parse().unwrap())).await.unwrap();
    let first = start().await;
    first.attached().await.unwrap();
    eventually("it has an id", || first.view(|state| state.cluster_id.is_some())).await;
    let state = first.view(|state| state.cluster_id.clone()).unwrap();
    first.shutdown().await.unwrap();
    drop(first);

    let path = dir.path().join("identity");
    let identity = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, identity.replace(state.as_str(), "00ff")).unwrap();
    let mixed = start().await;
    let attached = timeout(Duration::from_secs(20), mixed.attached()).await.unwrap();
    let Err(StartError::Refused(Rejection::TwoClusters { disk, state: logged })) = attached else {
        panic!("{attached:?}");
    };
    assert_eq!((disk.as_str(), logged), ("00ff", state));
    assert!(timeout(Duration::from_secs(20), mixed.failed()).await.unwrap().contains("two clusters"));
    mixed.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_lost_before_it_takes_a_node_in_is_not_waited_for() {
    let mut nodes = cluster(3, 5).await;
    let lost = nodes[0].cluster_id();
    nodes.iter_mut().for_each(Node::kill);
    nodes[0].start().await;
    nodes[2].wipe();
    nodes[2].start().await;
    // It has heard of the cluster, which cannot take it in without a quorum.
    sleep(A_WHILE).await;
    assert!(nodes[2].cluster_id().is_none());
    let waits = || nodes[2].coordinator().status().joining;
    assert!(waits().contains("has not taken this node in"), "{}", waits());
    nodes[0].kill();
    for number in [0, 1] {
        nodes[number].wipe();
        nodes[number].start().await;
    }
    // The disks of that cluster may only be on their way: nobody founds another while this one remembers.
    eventually("it is not waited for as the only one any more", || {
        !nodes[2].coordinator().status().joining.contains("taken")
    })
    .await;
    sleep(A_WHILE).await;
    assert!(nodes.iter().all(|node| node.cluster_id().is_none()));
    nodes[2].kill();
    nodes[2].start().await;
    eventually("they are a new cluster", || nodes.iter().all(|node| node.cluster_id().is_some())).await;
    for node in &nodes {
        node.attached().await;
        assert_ne!(node.cluster_id(), lost);
        assert_eq!(node.cluster_id(), nodes[0].cluster_id());
    }
}
