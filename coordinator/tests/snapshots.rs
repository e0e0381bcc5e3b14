//! The log does not grow for ever, and what a snapshot took over is there after a restart.

use std::{path::Path, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use sluice_coordinator::{
    Config, Coordinator, StartError,
    machine::{Outcome, RegisterMember},
    model::{Generation, NodeName, RaftId},
};

const PROPOSALS: u64 = 21_000;
const AT_ONCE: usize = 256;

async fn start(dir: &Path) -> Result<Coordinator, StartError> {
    let coordinator = Coordinator::start(Config::new(dir, "n1".parse().unwrap())).await?;
    coordinator.attached().await.map(|_| coordinator)
}

fn snapshots(dir: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(dir.join("snapshots")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "snapshot")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_becomes_a_snapshot_and_a_restart_starts_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Arc::new(start(dir.path()).await.unwrap());
    let other: NodeName = "n2".parse().unwrap();
    let register = || RegisterMember {
        name: other.clone(),
        raft_id: RaftId(1),
        address: String::new(),
        admin_address: String::new(),
    };
    let outcomes = stream::iter(0..PROPOSALS).map(|_| coordinator.propose(register())).buffer_unordered(AT_ONCE);
    outcomes.for_each(async |outcome| assert!(matches!(outcome, Ok(Outcome::Registered { .. })))).await;
    for _ in 0..500 {
        if !snapshots(dir.path()).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = coordinator.view(Clone::clone);
    coordinator.shutdown().await.unwrap();
    assert_eq!(before.members[&other].generation, Generation(PROPOSALS));

    let coordinator = start(dir.path()).await.unwrap();
    let mut after = coordinator.view(Clone::clone);
    let me = after.members.get_mut(coordinator.node()).unwrap();
    assert_eq!(me.generation, Generation(2));
    me.generation = Generation(1);
    assert_eq!(after, before);
    coordinator.shutdown().await.unwrap();

    // A snapshot that is damaged is not passed over: what it took from the log is nowhere else.
    let newest = snapshots(dir.path()).into_iter().max().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let error = start(dir.path()).await.unwrap_err().to_string();
    assert!(error.contains("checksum") && error.contains(newest.to_str().unwrap()), "{error}");
}
