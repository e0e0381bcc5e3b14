//! A voter whose disk fails it stops, or does not start, and says so.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    Config, DataDirError, StartError, Transport,
    machine::{Command, InitCluster},
    model::{ClusterId, UnixMs},
    raft::{Group, WriteError},
};

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_the_voter() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(dir.path(), "n1".parse().unwrap());
    let group = Group::open(&config, Transport::plain()).await.unwrap();
    let cluster_id: ClusterId = "c1".parse().unwrap();
    group.found(cluster_id.clone()).await.unwrap();
    let mut leadership = group.leader_changes();
    leadership.wait_for(|now| now.leader.is_some()).await.unwrap();
    let command = Command { proposed_at: UnixMs(0), kind: InitCluster { cluster_id }.into() };
    group.write(command.clone()).await.unwrap();

    group.log.close().await.unwrap();
    let error = group.write(command).await.unwrap_err();
    assert!(matches!(error, WriteError::Stopped(_)), "{error}");
    let why = timeout(Duration::from_secs(5), group.failed()).await.unwrap();
    assert!(why.contains("the log is closed"), "{why}");
}

#[tokio::test]
async fn a_voter_that_has_lost_its_log_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(dir.path(), "n1".parse().unwrap());
    Group::open(&config, Transport::plain()).await.unwrap().shutdown().await.unwrap();
    std::fs::remove_file(dir.path().join("log.redb")).unwrap();
    let error = Group::open(&config, Transport::plain()).await.unwrap_err();
    assert!(matches!(error, StartError::DataDir(DataDirError::LogLost(_))), "{error}");
}
