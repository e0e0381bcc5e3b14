//! What becomes of shards and of the group when nodes come, go and die.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sluice_coordinator::{
    Config, Coordinator, ProposeError, Rejection, StartError, Timings,
    machine::{Outcome, RemoveMember, SetMemberState},
    model::MemberState,
};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

use crate::support::cluster::{LEASE, Node, cluster, eventually, is_settled, leader, shard};

fn loads(nodes: &[Node]) -> Vec<usize> {
    leader(nodes).unwrap().loads().into_values().collect()
}

fn is_even(nodes: &[Node], shards: usize) -> bool {
    let running = nodes.iter().filter(|node| node.is_running()).count();
    is_settled(nodes, shards) && {
        let loads = loads(nodes);
        loads.len() == running && loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1
    }
}

/// Settled, with no shards on those that are not running.
fn is_taken_over(nodes: &[Node], shards: usize) -> bool {
    is_settled(nodes, shards) && loads(nodes).len() <= nodes.iter().filter(|node| node.is_running()).count()
}

fn follower(nodes: &[Node]) -> usize {
    nodes.iter().position(|node| node.is_running() && !node.is_leader()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_followers_shards_go_to_others_after_its_lease() {
    let mut nodes = cluster(3, 5).await;
    nodes[0].apply(6).await;
    eventually("every node has two", || is_even(&nodes, 6)).await;
    let (lost, before) = (follower(&nodes), leader(&nodes).unwrap().coordinator().view(Clone::clone));
    nodes[lost].kill();
    let killed = Instant::now();
    eventually("others have them", || is_taken_over(&nodes, 6)).await;
    assert!(killed.elapsed() > LEASE * 8 / 10, "a lease is not to be cut short: {:?}", killed.elapsed());
    let after = leader(&nodes).unwrap().coordinator().view(Clone::clone);
    for (id, shard) in &before.shards {
        let was_lost = shard.owner.as_ref().unwrap().node == nodes[lost].name;
        assert_eq!(after.shards[id].epoch.0, shard.epoch.0 + u64::from(was_lost), "{id}");
    }
    nodes[lost].start().await;
    assert_eq!(nodes[lost].attached().await.generation.0, 2);
    eventually("it has its share again", || is_even(&nodes, 6)).await;
}

/// Without a pause the leader would call as fast as it is refused, a whole core long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_voter_is_called_seldom() {
    let mut nodes = cluster(3, 5).await;
    let lost = follower(&nodes);
    nodes[lost].kill();
    let refused = Instant::now();
    let listener = loop {
        match TcpListener::bind(&nodes[lost].address).await {
            Ok(listener) => break listener,
            Err(error) => assert!(refused.elapsed() < Duration::from_secs(10), "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    };
    let (begun, mut calls) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(2) {
        // Hangs up at once.
        calls += usize::from(timeout(Duration::from_millis(100), listener.accept()).await.is_ok());
    }
    assert!((1..100).contains(&calls), "{calls} calls in two seconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_replaced_and_the_others_keep_their_generation_and_shards() {
    let mut nodes = cluster(3, 5).await;
    nodes[0].apply(6).await;
    eventually("every node has two", || is_even(&nodes, 6)).await;
    let lost = nodes.iter().position(Node::is_leader).unwrap();
    let before = nodes[lost].coordinator().view(Clone::clone);
    nodes[lost].kill();
    eventually("there is a leader, and the shards are taken over", || is_taken_over(&nodes, 6)).await;
    let after = leader(&nodes).unwrap().coordinator().view(Clone::clone);
    for (name, member) in &after.members {
        assert_eq!(member.generation, before.members[name].generation, "{name}");
    }
    for (id, shard) in &before.shards {
        let was_lost = shard.owner.as_ref().unwrap().node == nodes[lost].name;
        assert_eq!(after.shards[id].epoch.0, shard.epoch.0 + u64::from(was_lost), "{id}");
    }
    let other = follower(&nodes);
    let lease = nodes[other].coordinator().lease();
    eventually("the lease goes on", || lease.is_valid()).await;
    let asked = Instant::now();
    nodes[other].on(|c| async move { c.lease().confirmed_since(asked).await }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_hands_over_and_comes_back() {
    let mut nodes = cluster(3, 5).await;
    nodes[0].apply(6).await;
    eventually("every node has two", || is_even(&nodes, 6)).await;
    for number in 0..3 {
        let cluster = nodes[number].cluster_id();
        nodes[number].stop().await;
        let name = nodes[number].name.clone();
        eventually("another leads, and all shards have left", || {
            leader(&nodes).is_some_and(|leader| !leader.loads().contains_key(name.as_str()))
        })
        .await;
        let state = leader(&nodes).unwrap().coordinator().view(|state| state.members[&name].state);
        assert_eq!(state, MemberState::Stopping);
        nodes[number].start().await;
        assert_eq!(nodes[number].attached().await.generation.0, 2);
        assert_eq!(nodes[number].cluster_id(), cluster);
        eventually("it has its share again", || is_even(&nodes, 6)).await;
    }
    assert_eq!(leader(&nodes).unwrap().voters().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drained_filled_removed() {
    let mut nodes = cluster(3, 5).await;
    nodes[0].apply(6).await;
    eventually("every node has two", || is_even(&nodes, 6)).await;
    let out = follower(&nodes);
    let name = nodes[out].name.clone();
    let set = |state| SetMemberState { name: name.clone(), state, generation: None };
    let (drain, fill) = (set(MemberState::Draining), set(MemberState::Active));
    nodes[out].on(|c| async move { c.propose(drain).await }).await.unwrap();
    eventually("it is empty", || is_settled(&nodes, 6) && nodes[out].part() == 0).await;
    nodes[out].on(|c| async move { c.propose(fill).await }).await.unwrap();
    eventually("it has its share again", || is_even(&nodes, 6)).await;

    let remove = |force| RemoveMember { name: name.clone(), force, generation: None };
    let (gently, by_force) = (remove(false), remove(true));
    let at = leader(&nodes).unwrap();
    let refused = at.on(|c| async move { c.propose(gently).await }).await.unwrap();
    assert!(matches!(refused, Outcome::Refused(_)), "{refused:?}");
    at.on(|c| async move { c.propose(by_force).await }).await.unwrap();
    let failed = nodes[out].on(|c| async move { c.failed().await });
    let failed = tokio::time::timeout(Duration::from_secs(20), failed).await.unwrap();
    assert!(failed.contains("removed"), "{failed}");
    assert!(!nodes[out].coordinator().lease().is_valid());
    nodes[out].kill();
    eventually("the others have its shards", || is_taken_over(&nodes, 6)).await;
    eventually("it votes no more", || {
        leader(&nodes).is_some_and(|leader| !leader.voters().contains(&name.to_string()))
    })
    .await;

    // Its disk stays away; an empty one may come.
    nodes[out].start().await;
    let attached = nodes[out].on(|c| async move { c.attached().await });
    let refused = tokio::time::timeout(Duration::from_secs(20), attached).await.unwrap().unwrap_err();
    assert!(matches!(refused, sluice_coordinator::StartError::Refused(Rejection::Removed { .. })), "{refused}");
    nodes[out].kill();
    nodes[out].wipe();
    nodes[out].start().await;
    nodes[out].attached().await;
    eventually("it has its share again", || is_even(&nodes, 6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_takes_proposals_and_reads() {
    let nodes = cluster(5, 3).await;
    let voters = leader(&nodes).unwrap().voters();
    let outside = nodes.iter().find(|node| !voters.contains(&node.name.to_string())).unwrap();
    eventually("it has no copy of the state", || outside.coordinator().status().members.is_empty()).await;
    outside.apply(5).await;
    eventually("every node has one", || is_even(&nodes, 5)).await;
    for node in &nodes {
        let (owner, _) = node
            .on(|c| async move { c.read(|state, at| (state.shards[&shard(0)].owner.clone(), at)).await })
            .await
            .unwrap();
        assert!(owner.is_some());
        node.apply(5).await;
        assert!(node.coordinator().lease().is_valid());
        assert_eq!(node.part(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_leases_lapse_and_with_it_all_goes_on() {
    let mut nodes = cluster(3, 5).await;
    nodes[0].apply(6).await;
    eventually("every node has two", || is_even(&nodes, 6)).await;
    let before: BTreeMap<_, _> = nodes[2].coordinator().view(|state| state.shards.clone());
    nodes[0].kill();
    nodes[1].kill();
    let lease = nodes[2].coordinator().lease();
    eventually("the lease lapses", || !lease.is_valid()).await;
    let name = nodes[2].name.clone();
    let drain = SetMemberState { name, state: MemberState::Draining, generation: None };
    let error = nodes[2].on(|c| async move { c.propose(drain).await }).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unavailable(_) | ProposeError::Unknown(_)), "{error}");
    // What it had it still has: nobody could give it away.
    assert_eq!(nodes[2].coordinator().part().borrow().shards.len(), 2);
    assert_eq!(nodes[2].coordinator().view(|state| state.shards.clone()), before);
    nodes[0].start().await;
    eventually("the lease is back", || lease.is_valid()).await;
    nodes[1].start().await;
    eventually("all goes on", || is_even(&nodes, 6)).await;
    assert_eq!(nodes[2].attached().await.generation.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_group_grows_to_five_and_shrinks_to_three_without_its_leader() {
    let mut nodes = cluster(3, 5).await;
    nodes[0].apply(10).await;
    for number in 3..5 {
        let mut node = Node::new(&format!("n-{number}"), nodes[0].plan.clone());
        node.plan.may_found = false;
        node.start().await;
        node.attached().await;
        nodes.push(node);
    }
    eventually("five vote", || leader(&nodes).is_some_and(|leader| leader.voters().len() == 5)).await;
    eventually("every node has two", || is_even(&nodes, 10)).await;

    let leaving = nodes.iter().position(Node::is_leader).unwrap();
    let other = (leaving + 1) % 5;
    for out in [leaving, other] {
        let name = nodes[out].name.clone();
        let remove = RemoveMember { name: name.clone(), force: true, generation: None };
        leader(&nodes).unwrap().on(|c| async move { c.propose(remove).await }).await.unwrap();
        eventually("it votes and leads no more", || {
            let others = nodes.iter().filter(|node| node.name != name);
            others.into_iter().any(|node| node.is_leader() && !node.voters().contains(&name.to_string()))
        })
        .await;
        nodes[out].kill();
    }
    eventually("three vote", || leader(&nodes).is_some_and(|leader| leader.voters().len() == 3)).await;
    eventually("three have all shards", || is_even(&nodes, 10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovered_node_has_all_shards_and_takes_others_with_new_disks_only() {
    let mut nodes = cluster(3, 5).await;
    nodes[0].apply(6).await;
    eventually("every node has two", || is_even(&nodes, 6)).await;
    eventually("all know", || nodes.iter().all(|node| node.loads().len() == 3)).await;
    nodes.iter_mut().for_each(Node::kill);
    let recovery = nodes[1].recover().await;
    assert_eq!(recovery.node, "n-1");
    nodes[1].start().await;
    assert_eq!(nodes[1].attached().await.generation.0, 2);
    eventually("it has all", || is_taken_over(&nodes, 6)).await;
    assert_eq!(nodes[1].voters(), ["n-1"]);

    nodes[0].start().await;
    let attached = nodes[0].on(|c| async move { c.attached().await });
    let attached = tokio::time::timeout(Duration::from_secs(20), attached).await.unwrap();
    assert!(matches!(attached, Err(StartError::Refused(Rejection::Removed { .. }))), "{attached:?}");
    nodes[0].kill();
    for number in [0, 2] {
        nodes[number].wipe();
        nodes[number].start().await;
        assert_eq!(nodes[number].attached().await.generation.0, 2);
    }
    eventually("all is as before", || {
        is_even(&nodes, 6) && leader(&nodes).is_some_and(|leader| leader.voters().len() == 3)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superseded_process_says_nothing_of_its_successor() {
    let nodes = cluster(3, 5).await;
    nodes[0].apply(6).await;
    eventually("every node has two", || is_even(&nodes, 6)).await;
    let old = follower(&nodes);
    let mut successor = Node::new(nodes[old].name.as_str(), nodes[old].plan.clone());
    successor.plan.may_found = false;
    successor.start().await;
    assert_eq!(successor.attached().await.generation.0, 2);
    let failed = nodes[old].on(|c| async move { c.failed().await }).await;
    assert!(failed.contains("another process has started"), "{failed}");
    let began = Instant::now();
    nodes[old].on(|c| async move { c.leave(Duration::from_secs(10)).await }).await;
    assert!(began.elapsed() < Duration::from_secs(1), "there is nothing to wait for: {:?}", began.elapsed());
    // Nor would the cluster have believed it.
    let name = nodes[old].name.clone();
    let generation = Some(sluice_coordinator::model::Generation(1));
    let stopping = SetMemberState { name: name.clone(), state: MemberState::Stopping, generation };
    let said = leader(&nodes).unwrap().on(|c| async move { c.propose(stopping).await }).await.unwrap();
    assert!(matches!(said, Outcome::Refused(_)), "{said:?}");
    let member = leader(&nodes).unwrap().coordinator().view(|state| state.members[&name].clone());
    assert_eq!((member.state, member.generation.0), (MemberState::Active, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_in_the_group_does_not_show_how_things_were_then() {
    let nodes = cluster(4, 5).await;
    nodes[0].apply(4).await;
    let voters = leader(&nodes).unwrap().voters();
    let learner = nodes.iter().find(|node| !voters.contains(&node.name.to_string())).unwrap();
    let members = || learner.coordinator().status().members.len();
    eventually("the fourth has a copy", || members() == 4).await;
    let drain = SetMemberState { name: learner.name.clone(), state: MemberState::Draining, generation: None };
    nodes[0].on(|c| async move { c.propose(drain).await }).await.unwrap();
    eventually("nobody keeps a copy on it any more", || members() == 0).await;
    nodes[0].apply(7).await;
    let shards = learner.on(|c| async move { c.read(|state, _| state.shards.len()).await }).await.unwrap();
    assert_eq!(shards, 7);
    let began = Instant::now();
    learner.apply(8).await;
    assert!(began.elapsed() < Duration::from_millis(900), "it waited for its own copy: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_when_nobody_leads_does_not_wait_out_its_patience() {
    let mut nodes = cluster(3, 5).await;
    nodes[0].apply(6).await;
    eventually("every node has two", || is_even(&nodes, 6)).await;
    nodes[0].kill();
    nodes[1].kill();
    let began = Instant::now();
    nodes[2].on(|c| async move { c.leave(Duration::from_secs(15)).await }).await;
    assert!(began.elapsed() < LEASE * 4, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaders_own_lease_outlasts_its_keep_alives_however_rare_those_of_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let seconds = Duration::from_secs;
    let mut config = Config::new(dir.path(), "n-0".parse().unwrap());
    (config.lease, config.keep_alive) = (seconds(30), seconds(10));
    config.timings = Timings { election_min: seconds(1), election_max: seconds(4), ..Timings::default() };
    let coordinator = Coordinator::start(config).await.unwrap();
    coordinator.attached().await.unwrap();
    let lease = coordinator.lease();
    lease.valid().await;
    assert!(tokio::time::timeout(seconds(6), lease.lapsed()).await.is_err(), "it lapsed between two keep-alives");
    coordinator.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_outside_the_group_finds_the_next_leader_without_its_seeds() {
    let mut nodes = cluster(3, 3).await;
    let seed = nodes.iter().position(Node::is_leader).unwrap();
    let mut outside = Node::new("n-9", nodes[0].plan.clone());
    outside.plan.may_found = false;
    outside.plan.seeds = vec![nodes[seed].address.clone()];
    outside.start().await;
    outside.attached().await;
    assert!(outside.coordinator().status().members.is_empty(), "it has no copy of the state");
    let lease = outside.coordinator().lease();
    outside.on(async |c| c.lease().valid().await).await;
    nodes[seed].kill();
    let killed = Instant::now();
    eventually("another leads", || leader(&nodes).is_some()).await;
    let attached = outside.on(move |_| async move { lease.confirmed_since(killed).await });
    tokio::time::timeout(Duration::from_secs(20), attached).await.expect("it finds the leader");
}
