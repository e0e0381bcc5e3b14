//! A voter whose disk fails it stops, and says so.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    Config, ProposeError,
    machine::{Command, InitCluster},
    model::UnixMs,
    raft::Group,
};

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_the_voter() {
    let dir = tempfile::tempdir().unwrap();
    let group = Group::open(&Config::new(dir.path(), "n1".parse().unwrap())).await.unwrap();
    let command = Command {
        proposed_at: UnixMs(0),
        kind: InitCluster { cluster_id: group.identity().cluster_id.clone() }.into(),
    };
    group.propose(command.clone()).await.unwrap();

    group.log.close().await.unwrap();
    let error = group.propose(command).await.unwrap_err();
    assert!(matches!(error, ProposeError::Stopped(_)), "{error}");
    let why = timeout(Duration::from_secs(5), group.failed()).await.unwrap();
    assert!(why.contains("the log is closed"), "{why}");
}
