//! What was promised durable is there after a kill. A kill is a copy of the file taken while the store is open.

use std::{fs, path::Path};

use openraft::{
    EntryPayload, RaftLogReader as _,
    impls::leader_id_adv::LeaderId,
    storage::{RaftLogStorage as _, RaftLogStorageExt as _},
};

use crate::raft::{
    log_store::LogStore,
    types::{Entry, LogId, Vote},
};

fn id(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id: 1 }, index }
}

fn blank(term: u64, index: u64) -> Entry {
    Entry { log_id: id(term, index), payload: EntryPayload::Blank }
}

fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId { term, node_id: 1 }, committed: true }
}

/// What a process that starts after a kill finds.
fn after_a_kill(dir: &Path, round: u32) -> LogStore {
    let copy = dir.join(format!("killed-{round}.redb"));
    fs::copy(dir.join("log.redb"), &copy).unwrap();
    LogStore::open(&copy).unwrap()
}

async fn indexes(log: &mut LogStore) -> Vec<u64> {
    log.try_get_log_entries(..).await.unwrap().iter().map(|entry| entry.log_id.index).collect()
}

#[tokio::test]
async fn what_was_flushed_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = LogStore::open(&dir.path().join("log.redb")).unwrap();

    log.save_vote(&vote(1)).await.unwrap();
    log.blocking_append([blank(1, 0), blank(1, 1)]).await.unwrap();
    let mut killed = after_a_kill(dir.path(), 1);
    assert_eq!(killed.read_vote().await.unwrap(), Some(vote(1)));
    assert_eq!(indexes(&mut killed).await, [0, 1]);
    assert_eq!(killed.get_log_state().await.unwrap().last_log_id, Some(id(1, 1)));

    // The committed id is durable with the next entry, and need not be before.
    log.save_committed(Some(id(1, 1))).await.unwrap();
    log.blocking_append([blank(1, 2), blank(1, 3)]).await.unwrap();
    let mut killed = after_a_kill(dir.path(), 2);
    assert_eq!(killed.read_committed().await.unwrap(), Some(id(1, 1)));
    assert_eq!(indexes(&mut killed).await, [0, 1, 2, 3]);

    log.truncate_after(Some(id(1, 2))).await.unwrap();
    log.save_vote(&vote(2)).await.unwrap();
    log.blocking_append([blank(2, 3)]).await.unwrap();
    log.purge(id(1, 1)).await.unwrap();
    let mut killed = after_a_kill(dir.path(), 3);
    let state = killed.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 1)), Some(id(2, 3))));
    assert_eq!(indexes(&mut killed).await, [2, 3]);
    assert_eq!(killed.read_vote().await.unwrap(), Some(vote(2)));
}

#[tokio::test]
async fn a_closed_log_opens_again_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.redb");
    let mut log = LogStore::open(&path).unwrap();
    log.blocking_append([blank(1, 0)]).await.unwrap();
    log.save_committed(Some(id(1, 0))).await.unwrap();
    log.close().await.unwrap();
    assert!(log.save_vote(&vote(1)).await.is_err(), "a closed log takes nothing");
    assert!(log.try_get_log_entries(..).await.is_err(), "a closed log gives nothing");

    let mut again = LogStore::open(&path).unwrap();
    assert_eq!(again.read_committed().await.unwrap(), Some(id(1, 0)));
    assert_eq!(indexes(&mut again).await, [0]);
}
