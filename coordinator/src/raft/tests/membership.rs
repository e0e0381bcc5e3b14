//! Learners, voters, and who leads.

use std::{collections::BTreeSet, pin::pin};

use futures::poll;
use openraft::ChangeMembers;
use tokio::time::Instant;

use super::cluster::{
    FAST, Node, STEADY, cluster, cluster_id, eventually, join, leader, on_leader, write, write_large,
};
use crate::raft::{RaftNode, WriteError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_catches_up_visibly_and_becomes_a_voter() {
    let mut nodes = cluster(1, FAST).await;
    write(&nodes, "first").await;
    let mut learner = Node::start("n2", FAST).await;
    learner.group.adopt(cluster_id()).await.unwrap();
    join(&nodes, &learner).await;
    let id = learner.id();
    let caught_up = |nodes: &[Node]| {
        let roles = nodes[0].group.roles();
        roles.learners.contains(&id) && roles.matched.get(&id) == Some(&roles.last_log)
    };
    eventually("it has all", || caught_up(&nodes)).await;
    assert!(nodes[0].group.roles().last_contact.contains_key(&id));
    assert_eq!(learner.pipelines(), ["first"]);

    learner.deafen();
    for number in 0..10 {
        write(&nodes, &format!("missed-{number}")).await;
    }
    let roles = nodes[0].group.roles();
    assert!(roles.last_log - roles.matched[&id] >= 10, "a lag is seen: {roles:?}");
    learner.listen();
    eventually("it has all again", || caught_up(&nodes)).await;

    let voters: BTreeSet<_> = [nodes[0].id(), id].into();
    nodes[0].group.set_voters(voters.clone()).await.unwrap();
    nodes.push(learner);
    eventually("both know", || nodes.iter().all(|node| node.group.roles().voters == voters)).await;
    assert_eq!(nodes[0].group.roles().voters_next, None);

    // A lost disk: the same name, another id, in its place at once.
    let lost = nodes.remove(1).kill().await;
    drop(lost);
    let fresh = Node::start("n2", FAST).await;
    fresh.group.adopt(cluster_id()).await.unwrap();
    assert_ne!(fresh.id(), id);
    // Of two voters one is gone: nothing can be changed until it is back or the cluster is recovered.
    let refused = nodes[0].group.add_learner(fresh.id(), fresh.as_node()).await.unwrap_err();
    assert!(matches!(refused, WriteError::NotLeader { .. } | WriteError::Unknown(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_is_replaced_in_one_change() {
    let mut nodes = cluster(3, FAST).await;
    let kept = leader(&nodes).await.id();
    let lost = nodes.iter().position(|node| node.id() != kept).unwrap();
    let lost = nodes.remove(lost);
    let (name, old) = (lost.name.clone(), lost.id());
    lost.kill().await;

    let fresh = Node::start(&name, FAST).await;
    fresh.group.adopt(cluster_id()).await.unwrap();
    join(&nodes, &fresh).await;
    let mut voters: BTreeSet<_> = nodes.iter().map(Node::id).collect();
    voters.insert(fresh.id());
    on_leader(&nodes, async |leader| leader.group.set_voters(voters.clone()).await).await;
    on_leader(&nodes, async |leader| leader.group.remove_learner(old).await).await;
    write(&nodes, "after").await;
    eventually("it has all and knows all", || {
        let roles = fresh.group.roles();
        roles.voters == voters && !roles.nodes.contains_key(&old) && fresh.pipelines() == ["after"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_half_done_is_completed_by_another_leader() {
    let mut nodes = cluster(3, STEADY).await;
    let fresh = Node::start("n4", STEADY).await;
    fresh.group.adopt(cluster_id()).await.unwrap();
    join(&nodes, &fresh).await;
    nodes.push(fresh);
    write(&nodes, "first").await;
    let first = leader(&nodes).await;
    let next: BTreeSet<_> = nodes.iter().map(Node::id).filter(|id| *id != first.id()).collect();
    // The first half of a change, as a leader that dies after it leaves it: one that does not have the present leader in it.
    let members: ChangeMembers<u64, RaftNode> = ChangeMembers::ReplaceAllVoters(next.iter().map(|id| id.0).collect());
    {
        // It is sent with the first look; who never looks again never sends the second half.
        let mut changed = pin!(first.group.raft.change_membership(members, true));
        assert!(poll!(&mut changed).is_pending());
        eventually("it is begun", || first.group.roles().voters_next.is_some()).await;
    }
    write(&nodes, "second").await;
    assert_eq!(first.group.roles().voters_next, Some(next.clone()));
    let refused = first.group.set_voters(next.clone()).await.unwrap_err();
    assert!(matches!(refused, WriteError::Refused(_)), "{refused}");

    let heir = nodes.iter().find(|node| next.contains(&node.id())).unwrap();
    eventually("the heir has all", || {
        let roles = first.group.roles();
        roles.matched.get(&heir.id()) == Some(&roles.last_log)
    })
    .await;
    first.group.transfer_leader(heir.id()).await.unwrap();
    on_leader(&nodes, async |leader| leader.group.set_voters(next.clone()).await).await;
    let roles = leader(&nodes).await.group.roles();
    assert_eq!((roles.voters, roles.voters_next), (next, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_comes_back_at_another_address_is_found_by_the_same_leader() {
    let mut nodes = cluster(3, STEADY).await;
    let first = leader(&nodes).await.id();
    let at = nodes.iter().position(|node| node.id() != first).unwrap();
    let moved = nodes.remove(at).kill().await.restart_elsewhere().await;
    join(&nodes, &moved).await;
    write(&nodes, "later").await;
    eventually("it is reached", || moved.pipelines() == ["later"]).await;
    assert_eq!(leader(&nodes).await.id(), first);
    let roles = nodes[0].group.roles();
    assert!(roles.voters.contains(&moved.id()), "it has kept its vote");
    assert_eq!(roles.nodes[&moved.id()], moved.as_node());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_and_a_removed_leader_goes() {
    let mut nodes = cluster(3, STEADY).await;
    write(&nodes, "first").await;
    let first = leader(&nodes).await;
    let second = nodes.iter().find(|node| node.id() != first.id()).unwrap();
    eventually("the next has all", || {
        let roles = first.group.roles();
        roles.matched.get(&second.id()) == Some(&roles.last_log)
    })
    .await;
    let started = Instant::now();
    first.group.transfer_leader(second.id()).await.unwrap();
    assert!(started.elapsed() < STEADY.election_min, "without waiting for a silence: {:?}", started.elapsed());
    assert_eq!(first.group.lease_left(), None);
    assert_eq!(first.group.roles().leader, Some(second.id()));
    assert_eq!(first.group.leader_changes().borrow().leader, Some(second.id()));
    write(&nodes, "second").await;
    assert_eq!(second.group.roles().previous_leader, Some(first.id()));
    let not_leader = first.group.transfer_leader(second.id()).await.unwrap_err();
    assert!(matches!(not_leader, WriteError::NotLeader { leader: Some(_) }), "{not_leader}");

    // A leader does not take its own vote away; its successor does.
    let gone = second.id();
    let left: BTreeSet<_> = nodes.iter().map(Node::id).filter(|id| *id != gone).collect();
    let refused = second.group.set_voters(left.clone()).await.unwrap_err();
    assert!(matches!(refused, WriteError::Refused(_)), "{refused}");
    second.group.transfer_leader(first.id()).await.unwrap();
    on_leader(&nodes, async |leader| leader.group.set_voters(left.clone()).await).await;
    on_leader(&nodes, async |leader| leader.group.remove_learner(gone).await).await;
    let at = nodes.iter().position(|node| node.id() == gone).unwrap();
    nodes.remove(at).kill().await;
    write(&nodes, "third").await;
    eventually("it is forgotten", || nodes.iter().all(|node| !node.group.roles().nodes.contains_key(&gone))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_learner_gets_a_snapshot_where_the_log_is_gone() {
    let nodes = cluster(1, STEADY).await;
    // Several pieces, and more than a connection's first window.
    for number in 0..3 {
        write_large(&nodes, &format!("large-{number}"), 700_000).await;
    }
    let raft = &nodes[0].group.raft;
    raft.trigger().snapshot().await.unwrap();
    let last = nodes[0].group.roles().last_log;
    eventually("there is a snapshot", || nodes[0].group.metrics(|m| m.snapshot.is_some_and(|at| at.index >= last)))
        .await;
    raft.trigger().purge_log(last).await.unwrap();
    eventually("the log is gone", || nodes[0].group.metrics(|m| m.purged.is_some_and(|at| at.index >= last))).await;

    let learner = Node::start("n2", STEADY).await;
    learner.group.adopt(cluster_id()).await.unwrap();
    join(&nodes, &learner).await;
    eventually("it has all", || learner.pipelines().len() == 3).await;
    eventually("by a snapshot", || learner.group.metrics(|m| m.snapshot.is_some_and(|at| at.index >= last))).await;
    write(&nodes, "later").await;
    eventually("the log goes on", || learner.pipelines().len() == 4).await;
    let learner = learner.kill().await.restart().await;
    eventually("it starts from the snapshot", || learner.pipelines().len() == 4).await;
}
