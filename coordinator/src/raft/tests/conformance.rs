//! openraft's own suite, on the real store and the real snapshots.

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

use crate::raft::{log_store::LogStore, snapshots::Snapshots, state_machine::StateMachine, types::TypeConfig};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = LogStore::open(&dir.path().join("log.redb")).unwrap();
        let machine = StateMachine::new(Snapshots::open(dir.path().join("snapshots")).unwrap());
        Ok((dir, log, machine))
    }
}

#[tokio::test]
async fn the_store_passes_openrafts_suite() {
    Suite::test_all(Builder).await.unwrap();
}
