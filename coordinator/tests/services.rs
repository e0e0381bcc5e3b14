//! The services over a real gRPC connection, and what is left of it all after a restart.

use std::time::Duration;

use sluice_coordinator::{
    Config, Coordinator, DataDirError, StartError,
    machine::{Outcome, RecordCheckpoints},
    model::{
        Checkpoint, Epoch, Ledger, Offset, Revision, Session, ShardId, TaskState, TaskStatus, TopicPartition, UnixMs,
    },
    now,
};
use sluice_proto::admin::v1::{self as pb};
use tonic::Code;

use crate::support::served::{Served, eventually};

const MANIFEST: &str = "readings 2 x/#";

fn checkpoint(coordinator: &Coordinator, index: u32, epoch: u64) -> RecordCheckpoints {
    let checkpoint = Checkpoint {
        epoch: Epoch(epoch),
        taken_at: UnixMs(now().0 - 500),
        ledger: Ledger { received: 10, delivered: 7, in_flight: 2, ..Ledger::default() },
        next_offsets: [(TopicPartition { topic: "t".to_owned(), partition: 3 }, Offset(42))].into(),
        session: Some(Session { revision: Revision(1), filters: vec!["x/#".to_owned()], is_open: true }),
        status: TaskStatus { state: TaskState::Running, message: "all is well".to_owned() },
        released: false,
        oldest_unacked_ms: 0,
    };
    let shard = ShardId { pipeline: "readings".parse().unwrap(), index };
    RecordCheckpoints { node: coordinator.me().unwrap(), checkpoints: vec![(shard, checkpoint)] }
}

#[tokio::test]
async fn pipelines_live_their_whole_life() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut pipelines = served.pipelines();
    let apply = |manifest: &str, dry_run| pb::ApplyPipelineRequest { manifest: manifest.to_owned(), dry_run };

    let rehearsed = pipelines.apply_pipeline(apply(MANIFEST, true)).await.unwrap().into_inner();
    assert!(rehearsed.changed);
    assert!(pipelines.list_pipelines(pb::ListPipelinesRequest {}).await.unwrap().into_inner().pipelines.is_empty());

    let applied = pipelines.apply_pipeline(apply(MANIFEST, false)).await.unwrap().into_inner();
    assert!(applied.changed);
    let again = pipelines.apply_pipeline(apply(MANIFEST, false)).await.unwrap().into_inner();
    assert!(!again.changed);
    let get = |name: &str| pb::GetPipelineRequest { name: name.to_owned() };
    let got = pipelines.get_pipeline(get("readings")).await.unwrap().into_inner().pipeline.unwrap();
    assert_eq!((got.revision, got.shards, got.manifest.as_str()), (1, 2, MANIFEST));

    let shrunk = pipelines.apply_pipeline(apply("readings 1 x/#", true)).await.unwrap().into_inner();
    assert_eq!((shrunk.changed, shrunk.pipeline.unwrap().shards), (true, 1));
    let wrong = pipelines.apply_pipeline(apply("what is this?", false)).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    let endless = pipelines.apply_pipeline(apply(&"x".repeat(300 << 10), false)).await.unwrap_err();
    assert_eq!(endless.code(), Code::InvalidArgument);
    assert_eq!(pipelines.get_pipeline(get("nothing")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(pipelines.get_pipeline(get("No Name")).await.unwrap_err().code(), Code::InvalidArgument);

    let name = || "readings".to_owned();
    let paused = pipelines.pause_pipeline(pb::PausePipelineRequest { name: name() }).await.unwrap().into_inner();
    assert_eq!(paused.pipeline.unwrap().state(), pb::PipelineState::Paused);
    assert!(paused.notice.contains("queue"));
    let resumed = pipelines.resume_pipeline(pb::ResumePipelineRequest { name: name() }).await.unwrap().into_inner();
    assert_eq!(resumed.pipeline.unwrap().state(), pb::PipelineState::Running);
    let delete = pb::DeletePipelineRequest { name: name(), discard: false };
    let deleted = pipelines.delete_pipeline(delete).await.unwrap().into_inner();
    assert_eq!(deleted.pipeline.unwrap().state(), pb::PipelineState::Deleting);
    served.stop().await;
}

#[tokio::test]
async fn every_shard_gets_this_node_and_a_watch_sees_it() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut watch = served.watch().await;
    let first = watch.message().await.unwrap().unwrap();
    assert!(first.changed.is_empty() && first.removed.is_empty());

    served.apply(MANIFEST).await;
    let mut owned = std::collections::BTreeMap::new();
    while owned.values().filter(|epoch| **epoch == 1).count() < 2 {
        for change in watch.message().await.unwrap().unwrap().changed {
            owned.insert(change.index, change.epoch);
        }
    }
    let outcome = served.coordinator.propose(checkpoint(&served.coordinator, 1, 1)).await.unwrap();
    assert_eq!(outcome, Outcome::Recorded { refused: vec![] });
    let change = watch.message().await.unwrap().unwrap();
    assert_eq!(change.changed.len(), 1);
    assert_eq!(
        (change.changed[0].state(), change.changed[0].message.as_str()),
        (pb::TaskState::Running, "all is well")
    );

    let listed = served.checkpoints().await;
    assert_eq!(listed.len(), 1);
    let ledger = listed[0].ledger.unwrap();
    assert_eq!((ledger.received, ledger.unaccounted), (10, 1));
    assert!((500..60_000).contains(&listed[0].age_ms), "{}", listed[0].age_ms);
    assert_eq!(listed[0].next_offsets[0].next_offset, 42);

    // What has ended is told once, with the last that was known of it.
    let delete = pb::DeletePipelineRequest { name: "readings".to_owned(), discard: true };
    served.pipelines().delete_pipeline(delete).await.unwrap();
    for index in 0..2 {
        let mut retired = checkpoint(&served.coordinator, index, 1);
        retired.checkpoints[0].1.session = None;
        retired.checkpoints[0].1.status.state = TaskState::Retired;
        served.coordinator.propose(retired).await.unwrap();
    }
    let mut removed = 0;
    while removed < 2 {
        removed += watch.message().await.unwrap().unwrap().removed.len();
    }
    assert!(served.assignments().await.is_empty());

    served.coordinator.shutdown().await.unwrap();
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    served.stop().await;
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let before = served.status().await;
    assert_eq!((before.node.as_str(), before.leader.as_str()), ("n1", "n1"));
    assert!(before.members[0].is_voter && before.members[0].is_leader);
    served.apply(MANIFEST).await;
    eventually(|| async { served.assignments().await.iter().all(|a| a.epoch == 1 && a.generation == 1) }).await;
    served.coordinator.propose(checkpoint(&served.coordinator, 0, 1)).await.unwrap();
    served.stop().await;

    let served = Served::start(dir.path()).await;
    let after = served.status().await;
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(after.members[0].generation, 2);
    assert!(after.applied_index > before.applied_index);
    eventually(|| async { served.assignments().await.iter().all(|a| a.epoch == 2 && a.generation == 2) }).await;
    assert_eq!(served.assignments().await.len(), 2);
    assert_eq!(served.checkpoints().await[0].epoch, 1);

    // The task of the life before is fenced.
    let late = served.coordinator.propose(checkpoint(&served.coordinator, 0, 1)).await.unwrap();
    assert!(matches!(late, Outcome::Recorded { refused } if refused.len() == 1));
    served.stop().await;
}

#[tokio::test]
async fn it_leads_well_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config::new(dir.path(), "n1".parse().unwrap());
    for _ in 0..2 {
        let started = tokio::time::Instant::now();
        let coordinator = Coordinator::start(config()).await.unwrap();
        coordinator.attached().await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        coordinator.shutdown().await.unwrap();
        coordinator.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_directory_belongs_to_one_process_and_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let config = |name: &str| Config::new(dir.path(), name.parse().unwrap());
    let first = Coordinator::start(config("n1")).await.unwrap();
    first.attached().await.unwrap();
    let second = Coordinator::start(config("n1")).await.unwrap_err();
    assert!(matches!(second, StartError::DataDir(DataDirError::InUse(_))), "{second}");
    first.shutdown().await.unwrap();
    let second = Coordinator::start(config("n2")).await.unwrap();
    let renamed = second.attached().await.unwrap_err();
    assert!(matches!(renamed, StartError::Refused(_)), "{renamed}");
    assert!(second.failed().await.contains("n1"));
    second.shutdown().await.unwrap();
    let first = Coordinator::start(config("n1")).await.unwrap();
    first.attached().await.unwrap();
    first.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_stopped_coordinator_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(Config::new(dir.path(), "n1".parse().unwrap())).await.unwrap();
    coordinator.attached().await.unwrap();
    coordinator.shutdown().await.unwrap();
    let error = coordinator.propose(checkpoint(&coordinator, 0, 1)).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    // An ordered stop is no failure.
    assert!(tokio::time::timeout(Duration::from_millis(100), coordinator.failed()).await.is_err());
}
