//! The state machine in memory: applies committed entries, is read by everybody, and is saved as a snapshot now and then.
//!
//! After a restart openraft installs the newest snapshot and applies the log from there.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use futures::{Stream, TryStreamExt as _};
use openraft::{
    EntryPayload, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};
use tokio::{sync::watch, task::spawn_blocking};

use super::{
    alone::alone,
    codec::{decode_snapshot, encode_snapshot},
    snapshots::Snapshots,
    types::{LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig},
};
use crate::{
    machine::{self, Outcome, Touched, invariants},
    model::{RaftId, State},
};

/// The state, for readers.
#[derive(Debug)]
pub(super) struct Replica {
    applied: RwLock<Applied>,
    /// What has changed since it was last asked. Locked after the state.
    touched: Mutex<Touched>,
    index: watch::Sender<u64>,
}

/// The state with the place in the log that it stands for.
#[derive(Debug, Clone, Default)]
pub(super) struct Applied {
    pub(super) state: State,
    pub(super) last: Option<LogId>,
    pub(super) membership: StoredMembership,
    /// Who led before the leader of the last entry, where the log that was applied since the start shows it.
    pub(super) led_before: Option<RaftId>,
}

impl Replica {
    /// Reads, while nothing is applied: what reads must read nothing else of the group inside.
    ///
    /// A panic in `apply` stops the Raft core and with it the node, so what a poisoned lock guards is read at most on the way out.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Applied) -> T) -> T {
        alone(|| read(&self.applied.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Reads, with what has changed since this was last called. For one caller.
    pub(super) fn read_touched<T>(&self, read: impl FnOnce(&State, &Touched) -> T) -> T {
        self.read(|applied| {
            let touched = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
            read(&applied.state, &touched)
        })
    }

    /// Follows the index of the last applied entry.
    pub(super) fn index(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Applied, &mut Touched) -> T) -> T {
        let mut applied = self.applied.write().unwrap_or_else(PoisonError::into_inner);
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut applied, &mut touched);
        let index = applied.last.as_ref().map_or(0, |last| last.index);
        drop(touched);
        drop(applied);
        self.index.send_replace(index);
        result
    }
}

/// openraft's side of the state.
#[derive(Debug, Clone)]
pub(super) struct StateMachine {
    replica: Arc<Replica>,
    snapshots: Arc<Snapshots>,
}

impl StateMachine {
    /// An empty state; openraft brings it up to date from the snapshots and the log.
    pub(super) fn new(snapshots: Snapshots) -> Self {
        let (applied, touched) = (RwLock::default(), Mutex::default());
        let replica = Replica { applied, touched, index: watch::Sender::new(0) };
        Self { replica: Arc::new(replica), snapshots: Arc::new(snapshots) }
    }

    pub(super) fn replica(&self) -> Arc<Replica> {
        self.replica.clone()
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok(self.replica.read(|applied| (applied.last, applied.membership.clone())))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let outcome = self.replica.change(|applied, touched| {
                if let Some(last) = applied.last.replace(entry.log_id)
                    && last.leader_id != entry.log_id.leader_id
                {
                    applied.led_before = Some(RaftId(last.leader_id.node_id));
                }
                apply(applied, touched, entry.log_id, entry.payload)
            });
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { applied: self.replica.read(Clone::clone), snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, bytes: Vec<u8>) -> io::Result<()> {
        let (meta, state) = decode_snapshot(&bytes)?;
        invariants::check(&state).map_err(|broken| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the snapshot contradicts itself, this is a defect of sluice: {broken}"),
            )
        })?;
        keep(&self.snapshots, &meta, bytes).await?;
        self.replica.change(|applied, touched| {
            *touched = Touched::all();
            *applied = Applied { state, last: meta.last_log_id, membership: meta.last_membership, led_before: None };
        });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let snapshots = self.snapshots.clone();
        let newest = spawn_blocking(move || snapshots.newest()).await.map_err(io::Error::other)??;
        newest.map(|snapshot| Ok(Snapshot { meta: decode_snapshot(&snapshot)?.0, snapshot })).transpose()
    }
}

fn apply(
    applied: &mut Applied,
    touched: &mut Touched,
    id: LogId,
    payload: EntryPayload<machine::Command, u64, super::types::RaftNode>,
) -> Option<Outcome> {
    match payload {
        EntryPayload::Blank => None,
        EntryPayload::Membership(membership) => {
            applied.membership = StoredMembership::new(Some(id), membership);
            None
        }
        EntryPayload::Normal(command) => {
            tracing::trace!(%command, index = id.index, "applying");
            Some(touched.apply(&mut applied.state, command))
        }
    }
}

/// Saves one state, while the next is being made.
#[derive(Debug)]
pub(super) struct SnapshotBuilder {
    applied: Applied,
    snapshots: Arc<Snapshots>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let Applied { state, last, membership, .. } = std::mem::take(&mut self.applied);
        let meta = SnapshotMeta { last_log_id: last, last_membership: membership };
        let encode = {
            let meta = meta.clone();
            move || encode_snapshot(&meta, &state)
        };
        let snapshot = spawn_blocking(encode).await.map_err(io::Error::other)?;
        keep(&self.snapshots, &meta, snapshot.clone()).await?;
        tracing::info!(bytes = snapshot.len(), index = meta.last_log_id.map(|id| id.index), "snapshot kept");
        Ok(Snapshot { meta, snapshot })
    }
}

async fn keep(snapshots: &Arc<Snapshots>, meta: &SnapshotMeta, bytes: Vec<u8>) -> io::Result<()> {
    let (snapshots, last) = (snapshots.clone(), meta.last_log_id.as_ref().map_or(0, |last| last.index));
    spawn_blocking(move || snapshots.keep(last, &bytes)).await.map_err(io::Error::other)?
}
