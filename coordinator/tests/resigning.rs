//! Nodes that leave for good, all but one of them at once, and come back as new ones.

use std::time::{Duration, Instant};

use futures::future::join_all;
use sluice_coordinator::{
    machine::{Outcome, PausePipeline, RemoveMember},
    model::MemberState,
};
use tokio::time::timeout;

use crate::support::cluster::{Node, cluster, eventually, is_settled, leader};

/// What a node that ends may take for it, beside the moving of its shards.
const PATIENCE: Duration = Duration::from_secs(20);

async fn resign(node: &Node) -> Result<(), String> {
    node.on(async |c| {
        c.leave(Duration::from_secs(10)).await;
        c.hand_over_leadership().await;
        let resigned = c.resign(PATIENCE).await;
        c.hand_over_leadership().await;
        c.shutdown().await.unwrap();
        resigned
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_but_the_first_go_at_once_and_come_back_as_new_ones() {
    let mut nodes = cluster(5, 5).await;
    nodes[0].apply(6).await;
    eventually("every shard is somebody's", || is_settled(&nodes, 6)).await;
    let cluster_id = nodes[0].cluster_id();
    // Whoever leads goes too.
    nodes[0].on(|c| async move { c.hand_over_leadership().await }).await;
    eventually("another leads", || leader(&nodes).is_some_and(|leader| leader.name != nodes[0].name)).await;
    let begun = Instant::now();
    let resigned = join_all(nodes[1..].iter().map(resign)).await;
    assert_eq!(resigned, vec![Ok(()); 4], "after {:?}", begun.elapsed());
    nodes[1..].iter_mut().for_each(Node::kill);
    eventually("the first leads, and votes alone", || nodes[0].is_leader() && nodes[0].voters() == ["n-0"]).await;
    eventually("and has all shards", || is_settled(&nodes, 6)).await;
    let gone = nodes[0]
        .coordinator()
        .view(|state| state.members.values().filter(|member| member.state == MemberState::Gone).count());
    assert_eq!(gone, 4);

    for number in [1, 2] {
        // Its disk is refused for ever: it throws it away.
        nodes[number].start().await;
        let failed = nodes[number].on(|c| async move { (c.failed().await, c.is_removed()) }).await;
        assert!(failed.1, "{}", failed.0);
        nodes[number].on(async |c| c.shutdown().await.unwrap()).await;
        nodes[number].kill();
        nodes[number].discard().await;
        nodes[number].start().await;
        nodes[number].attached().await;
        assert_eq!(nodes[number].cluster_id(), cluster_id);
    }
    eventually("three vote", || leader(&nodes).is_some_and(|leader| leader.voters().len() == 3)).await;
    eventually("and share the shards", || is_settled(&nodes, 6) && nodes[..3].iter().all(|node| node.part() == 2))
        .await;
}

/// Its vote is the only one: the other must have it before the disk may go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_voter_is_let_go_when_its_vote_is_not_needed() {
    let mut nodes = cluster(2, 5).await;
    let (cluster_id, name) = (nodes[0].cluster_id(), nodes[0].name.clone());
    assert_eq!(leader(&nodes).unwrap().voters(), ["n-0"]);
    let remove = RemoveMember { name, force: true, generation: None };
    nodes[1].on(|c| async move { c.propose(remove).await }).await.unwrap();
    let failed = nodes[0].on(|c| async move { (c.failed().await, c.is_removed()) }).await;
    assert!(failed.1, "{}", failed.0);
    let let_go = nodes[0].on(|c| async move { timeout(PATIENCE, c.let_go()).await }).await;
    assert!(let_go.is_ok());
    nodes[0].on(async |c| c.shutdown().await.unwrap()).await;
    nodes[0].kill();
    nodes[0].discard().await;
    eventually("the other leads", || nodes[1].is_leader() && nodes[1].voters() == ["n-1"]).await;
    nodes[0].start().await;
    nodes[0].attached().await;
    assert_eq!(nodes[0].cluster_id(), cluster_id);
}

/// What was said of an earlier start of a node does not remove the present one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_started_anew_is_not_removed() {
    let mut nodes = cluster(3, 5).await;
    let lost = nodes.iter().position(|node| !node.is_leader()).unwrap();
    let before = nodes[lost].attached().await;
    nodes[lost].kill();
    nodes[lost].start().await;
    nodes[lost].attached().await;
    let remove = RemoveMember { name: before.node, force: true, generation: Some(before.generation) };
    let outcome = leader(&nodes).unwrap().on(|c| async move { c.propose(remove).await }).await.unwrap();
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_needed_waits_and_says_so() {
    let mut nodes = cluster(3, 5).await;
    nodes[0].kill();
    nodes[1].kill();
    let patience = Duration::from_secs(2);
    let resigned = nodes[2].on(move |c| async move { c.resign(patience).await }).await;
    assert!(resigned.is_err(), "it would have left nobody who can change anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_tells_who_is_absent() {
    let mut nodes = cluster(3, 5).await;
    let lost = nodes.iter().position(|node| !node.is_leader()).unwrap();
    nodes[lost].kill();
    eventually("one is absent", || {
        leader(&nodes).is_some_and(|leader| leader.coordinator().overview().is_some_and(|overview| overview.alive == 2))
    })
    .await;
    let members = leader(&nodes).unwrap().on(|c| async move { c.members().await }).await;
    let absent: Vec<_> = members.iter().filter(|member| !member.is_alive).map(|member| &member.owner.node).collect();
    assert_eq!(absent, [&nodes[lost].name]);
    assert!(!leader(&nodes).unwrap().on(|c| async move { c.is_spared().await }).await);
    nodes[lost].start().await;
    nodes[lost].attached().await;
    nodes[0].apply(6).await;
    eventually("every shard is somebody's", || is_settled(&nodes, 6)).await;
    let without_node =
        |nodes: &[Node]| leader(nodes).and_then(|leader| Some(leader.coordinator().overview()?.shards_without_node));
    assert_eq!(without_node(&nodes), Some(0));
    let pause = PausePipeline { name: "readings".parse().unwrap() };
    nodes[0].on(|c| async move { c.propose(pause).await }).await.unwrap();
    nodes[lost].kill();
    let alive = |nodes: &[Node]| leader(nodes).and_then(|leader| Some(leader.coordinator().overview()?.alive));
    eventually("one is absent again", || alive(&nodes) == Some(2)).await;
    assert_eq!(without_node(&nodes), Some(0), "of a paused pipeline none needs one");
    let overview = leader(&nodes).unwrap().coordinator().overview().unwrap();
    assert_eq!((overview.members, overview.alive, overview.voters, overview.failure_tolerance), (3, 2, 3, 0));
    let follower = nodes.iter().find(|node| node.is_running() && !node.is_leader()).unwrap();
    assert!(follower.coordinator().overview().is_none());
}
