//! Elections, replication, and nodes that come and go.

use std::time::Duration;

use sluice_proto::{
    cluster::v1::{self as pb, raft_service_client::RaftServiceClient},
    state::v1::Vote,
};
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::cluster::{FAST, Node, STEADY, cluster, cluster_id, command, eventually, join, leader, write};
use crate::{
    Transport,
    raft::{JoinError, WriteError},
};

fn has(node: &Node, name: &str) -> bool {
    node.pipelines().contains(&name.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_catches_up() {
    let mut nodes = cluster(3, FAST).await;
    write(&nodes, "first").await;
    eventually("all have it", || nodes.iter().all(|node| has(node, "first"))).await;

    let away = nodes.iter().position(|node| !node.group.is_leading()).unwrap();
    let away = nodes.remove(away).kill().await;
    for number in 0..20 {
        write(&nodes, &format!("second-{number}")).await;
    }
    let back = away.restart().await;
    assert_eq!(back.group.identity().cluster_id, Some(cluster_id()));
    eventually("it has what it missed", || back.pipelines().len() == 21).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leads_when_the_leader_is_gone() {
    let mut nodes = cluster(3, FAST).await;
    write(&nodes, "before").await;
    let first = leader(&nodes).await.id();
    let at = nodes.iter().position(|node| node.id() == first).unwrap();
    let gone = nodes.remove(at).kill().await;

    let killed = Instant::now();
    write(&nodes, "after").await;
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    let second = leader(&nodes).await;
    assert_eq!(second.group.roles().previous_leader, Some(first));
    assert!(has(second, "before"), "what was answered is kept");
    assert!(second.group.lease_left().is_some());

    let follower = nodes.iter().find(|node| node.id() != second.id()).unwrap();
    assert_eq!(follower.group.lease_left(), None);
    let second = (second.id(), second.address.to_string());
    let refused = follower.group.write(command("elsewhere", 1)).await.unwrap_err();
    assert_eq!(refused, WriteError::NotLeader { leader: Some(second) });

    let back = gone.restart().await;
    eventually("the old leader follows", || has(&back, "after")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_the_lease_ends_and_nothing_is_written() {
    let mut nodes = cluster(3, STEADY).await;
    write(&nodes, "before").await;
    let first = leader(&nodes).await.id();
    let at = nodes.iter().position(|node| node.id() == first).unwrap();
    let alone = nodes.remove(at);
    assert!(alone.group.lease_left().is_some_and(|left| left <= STEADY.election_max));
    let mut gone = Vec::new();
    for node in nodes {
        gone.push(node.kill().await);
    }
    sleep(STEADY.election_max).await;
    assert_eq!(alone.group.lease_left(), None);
    let refused = alone.group.write(command("lost", 1)).await.unwrap_err();
    assert!(matches!(refused, WriteError::NotLeader { leader: None }), "{refused}");

    let mut nodes = vec![alone];
    nodes.push(gone.remove(0).restart().await);
    write(&nodes, "after").await;
    assert!(!has(leader(&nodes).await, "lost"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_hears_nothing_neither_counts_votes_of_the_dead_nor_disturbs_the_living() {
    let mut nodes = cluster(3, STEADY).await;
    let first = leader(&nodes).await.id();
    let term = nodes[0].group.roles().term;
    let deaf = nodes.iter().position(|node| node.id() != first).unwrap();

    // It reaches the others, who hear their leader.
    nodes[deaf].deafen();
    sleep(STEADY.election_max * 3).await;
    assert_eq!(nodes[deaf].group.roles().term, term, "it asked first and got no grants");
    write(&nodes, "meanwhile").await;
    nodes[deaf].listen();
    eventually("it follows again", || has(&nodes[deaf], "meanwhile")).await;
    assert_eq!(leader(&nodes).await.id(), first);
    assert_eq!(nodes[deaf].group.roles().term, term);

    // It reaches nobody.
    let alone = nodes.remove(deaf);
    for node in nodes {
        node.kill().await;
    }
    sleep(STEADY.election_max * 3).await;
    assert_eq!(alone.group.roles().term, term, "who cannot be reached has granted nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_another_cluster_or_another_disk_is_refused_with_both_names() {
    let nodes = cluster(1, FAST).await;
    let stranger = Node::start("s1", FAST).await;
    stranger.group.adopt("c2".parse().unwrap()).await.unwrap();
    let again = stranger.group.adopt(cluster_id()).await.unwrap_err();
    assert!(matches!(again, JoinError::OtherCluster { .. }), "{again}");

    // Its disk takes nothing of a cluster that is not its own.
    join(&nodes, &stranger).await;
    write(&nodes, "ours").await;
    sleep(Duration::from_secs(1)).await;
    assert!(stranger.pipelines().is_empty());
    assert_eq!(stranger.group.roles().term, 0);
    assert!(!nodes[0].group.roles().matched.contains_key(&stranger.id()));

    let mut client = RaftServiceClient::new(Transport::plain().channel(&nodes[0].address.to_string()).unwrap());
    let mut ask = async |cluster_id: &str, to: u64| {
        let route = Some(pb::Route { cluster_id: cluster_id.to_owned(), to });
        let vote = Some(Vote { term: 1_000, node: 7, committed: false });
        client.vote(pb::VoteRequest { route, vote, last: None, is_transfer: true }).await.unwrap_err()
    };
    let me = nodes[0].id().0;
    let status = ask("c2", me).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("c1") && status.message().contains("c2"), "{status}");
    let status = ask("c1", me ^ 1).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains(&me.to_string()), "{status}");
    assert!(nodes[0].group.roles().term < 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_founds_nothing_stays_pristine() {
    let node = Node::start("n1", FAST).await;
    sleep(FAST.election_max * 2).await;
    assert!(node.group.is_pristine() && !node.group.is_leading());
    assert_eq!(node.group.identity().cluster_id, None);
    let node = node.kill().await.restart().await;
    assert!(node.group.is_pristine());

    node.group.found(cluster_id()).await.unwrap();
    assert!(!node.group.is_pristine());
    assert!(node.group.found("c2".parse().unwrap()).await.is_err());
    let nodes = [node];
    assert_eq!(leader(&nodes).await.group.roles().leader_name, Some("n1".parse().unwrap()));
    assert_eq!(nodes[0].group.lease_left(), Some(FAST.election_max), "nobody else can be elected");
}
