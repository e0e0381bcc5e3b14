//! A lone survivor.

use std::{collections::BTreeSet, fs};

use tokio::time::sleep;

use super::cluster::{FAST, Node, cluster, eventually, leader, on_leader, write};
use crate::{
    machine::{Command, RegisterMember},
    model::UnixMs,
    raft::{RecoverError, log_store::LogStore, recover},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_survivor_leads_after_a_recovery() {
    let nodes = cluster(3, FAST).await;
    write(&nodes, "precious").await;
    eventually("all have it", || nodes.iter().all(|node| node.pipelines() == ["precious"])).await;
    let mut dead = Vec::new();
    for node in nodes {
        assert!(recover(node.dir(), true).await.is_err(), "not while it runs");
        dead.push(node.kill().await);
    }
    let survivor = dead.remove(2);

    let would = recover(survivor.dir(), false).await.unwrap();
    assert_eq!((would.node.as_str(), would.is_done), ("n3", false));
    let mut left_behind = would.left_behind.clone();
    left_behind.sort();
    assert_eq!(left_behind, ["n1", "n2"]);
    let again = recover(survivor.dir(), false).await.unwrap();
    assert_eq!(again, would, "nothing was changed");

    let did = recover(survivor.dir(), true).await.unwrap();
    assert!(did.is_done);
    assert_ne!(did.raft_id, would.raft_id, "the old group knows it by another id");
    assert!(matches!(recover(survivor.dir(), true).await, Err(RecoverError::Alone)));
    let nodes = [survivor.restart().await];
    write(&nodes, "later").await;
    let roles = leader(&nodes).await.group.roles();
    assert_eq!(roles.voters, [did.raft_id].into());
    assert_eq!(roles.nodes.len(), 1);
    assert_eq!(nodes[0].pipelines(), ["later", "precious"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_group_cannot_take_a_recovered_node_back() {
    let nodes = cluster(3, FAST).await;
    for node in &nodes {
        let (address, admin_address) = (node.address.to_string(), String::new());
        let name = node.name.parse().unwrap();
        let kind = RegisterMember { name, raft_id: node.id(), address, admin_address }.into();
        let command = Command { proposed_at: UnixMs(1), kind };
        on_leader(&nodes, async |leader| leader.group.write(command.clone()).await).await;
    }
    write(&nodes, "precious").await;
    eventually("all have it", || nodes.iter().all(|node| node.pipelines() == ["precious"])).await;
    let old: BTreeSet<_> = nodes[..2].iter().map(Node::id).collect();
    let mut dead = Vec::new();
    for node in nodes {
        dead.push(node.kill().await);
    }
    let survivor = dead.remove(2);
    recover(survivor.dir(), true).await.unwrap();
    let alone = [survivor.restart().await];
    write(&alone, "later").await;
    assert_eq!(alone[0].group.view(|state| state.removed.clone()), old);

    // The others were not lost after all.
    let mut others = Vec::new();
    for node in dead {
        others.push(node.restart().await);
    }
    write(&others, "theirs").await;
    // So long that one of them calls the third in a term above its own, if it can.
    sleep(FAST.election_max * 8).await;
    write(&alone, "still").await;
    assert_eq!(alone[0].pipelines(), ["later", "precious", "still"]);
    assert_eq!(leader(&others).await.pipelines(), ["precious", "theirs"]);
}

#[tokio::test]
async fn a_recovery_cut_short_between_log_and_identity_is_finished_by_the_next_start() {
    let mut nodes = cluster(3, FAST).await;
    write(&nodes, "precious").await;
    let dead = nodes.remove(0).kill().await;
    let identity = dead.dir().join("identity");
    let before = fs::read(&identity).unwrap();
    let did = recover(dead.dir(), true).await.unwrap();
    fs::write(&identity, before).unwrap();
    drop(nodes);
    let nodes = [dead.restart().await];
    write(&nodes, "later").await;
    assert_eq!(nodes[0].id(), did.raft_id);
}

#[tokio::test]
async fn asking_what_a_recovery_would_do_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mistyped, identity) = (dir.path().join("mistyped"), dir.path().join("identity"));
    for force in [false, true] {
        assert!(matches!(recover(&mistyped, force).await, Err(RecoverError::Nothing)));
        assert!(!mistyped.exists());
    }
    // A disk of version 1, whose log was never made.
    let v1 = "sluice-format 1\ncluster-id 00ff\nraft-id 7\nfounded false\n";
    fs::write(&identity, v1).unwrap();
    assert!(matches!(recover(dir.path(), false).await, Err(RecoverError::Nothing)));
    assert!(!dir.path().join("log.redb").exists());
    // And one whose log has no owner yet, and nothing in it.
    LogStore::open(&dir.path().join("log.redb")).unwrap().close().await.unwrap();
    assert!(matches!(recover(dir.path(), false).await, Err(RecoverError::Nothing)));
    assert_eq!(fs::read_to_string(&identity).unwrap(), v1);
    assert_eq!(LogStore::open(&dir.path().join("log.redb")).unwrap().owner(), None);
}

#[tokio::test]
async fn there_is_nothing_to_recover_on_a_new_disk_or_a_group_of_one() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(recover(dir.path(), true).await, Err(RecoverError::Nothing)));
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
    let mut nodes = cluster(1, FAST).await;
    write(&nodes, "precious").await;
    let dead = nodes.remove(0).kill().await;
    assert!(matches!(recover(dead.dir(), true).await, Err(RecoverError::Alone)));
}
