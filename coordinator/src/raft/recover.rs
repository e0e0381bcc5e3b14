//! The last resort of a cluster that has lost most of its voters for good: one disk's node becomes the only voter.
//!
//! Offline, on a stopped node's data directory. What only the lost voters had is lost. The other disks still believe in the old
//! group: were most of them started again they would elect a leader of their own, so none of them may ever be.

use std::{collections::BTreeMap, io, path::Path};

use openraft::{
    EntryPayload, RaftLogReader as _,
    impls::leader_id_adv::LeaderId,
    storage::{RaftLogStorage as _, RaftLogStorageExt as _},
};

use super::{
    codec::decode_snapshot,
    group::blocking,
    identity::{DataDir, Identity},
    log_store::LogStore,
    snapshots::Snapshots,
    types::{Entry, LogId, Membership, Vote},
};
use crate::{
    coordinator::StartError,
    model::{ClusterId, RaftId},
};

/// What a recovery does, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The cluster that goes on.
    pub cluster_id: ClusterId,
    /// The node that goes on.
    pub raft_id: RaftId,
    /// By this name.
    pub node: String,
    /// Index of the last entry that it has. Later ones, if there were any, are lost.
    pub last_log: u64,
    /// Names of the voters and learners that are left behind. Their disks must never be started again.
    pub left_behind: Vec<String>,
    /// Whether it was done: otherwise this is what would be.
    pub is_done: bool,
}

/// Why a disk cannot carry on alone.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The data directory cannot be used; perhaps the node still runs.
    #[error(transparent)]
    DataDir(#[from] StartError),
    /// It was never in a cluster, or nothing of it has come yet.
    #[error("this disk holds nothing of any cluster: recover on the disk of a node that was a voter")]
    Nothing,
    /// It was removed, or it never was a member.
    #[error("this disk's node is not in its cluster's group: recover on the disk of a node that was a voter")]
    NoMember,
    /// There is nothing to mend.
    #[error("this disk's node is the only voter already: start it")]
    Alone,
}

impl From<io::Error> for RecoverError {
    fn from(error: io::Error) -> Self {
        Self::DataDir(error.into())
    }
}

/// Makes the node of this data directory the only voter of its cluster; without `force` only says what that would do.
pub async fn recover(data_dir: &Path, force: bool) -> Result<Recovery, RecoverError> {
    let (dir, mut log) = open_existing(data_dir).await?;
    let recovered = recover_log(data_dir, dir.identity(), &mut log, force).await;
    log.close().await?;
    recovered
}

/// Takes the data directory of a node that has been here, and makes nothing in any other.
async fn open_existing(data_dir: &Path) -> Result<(DataDir, LogStore), RecoverError> {
    let (path, log_path) = (data_dir.to_owned(), data_dir.join("log.redb"));
    if !DataDir::is_one(data_dir) {
        return Err(RecoverError::Nothing);
    }
    let dir = blocking(move || DataDir::open(&path)).await?.map_err(StartError::from)?;
    if !log_path.exists() {
        dir.check_log(None, true).map_err(StartError::from)?;
        return Err(RecoverError::Nothing);
    }
    let log = blocking(move || LogStore::open(&log_path)).await??;
    dir.check_log(log.owner(), log.is_empty()).map_err(StartError::from)?;
    Ok((dir, log))
}

async fn recover_log(
    data_dir: &Path,
    identity: &Identity,
    log: &mut LogStore,
    force: bool,
) -> Result<Recovery, RecoverError> {
    let cluster_id = identity.cluster_id.clone().ok_or(RecoverError::Nothing)?;
    let membership = membership(data_dir, log).await?.ok_or(RecoverError::Nothing)?;
    let me = identity.raft_id.0;
    let node = membership.get_node(&me).cloned().ok_or(RecoverError::NoMember)?;
    if membership.voter_ids().eq([me]) {
        return Err(RecoverError::Alone);
    }
    let last = log.get_log_state().await?.last_log_id.ok_or(RecoverError::Nothing)?;
    let recovery = Recovery {
        cluster_id,
        raft_id: identity.raft_id,
        node: node.name.clone(),
        last_log: last.index,
        left_behind: membership.nodes().filter(|(id, _)| **id != me).map(|(_, node)| node.name.clone()).collect(),
        is_done: force,
    };
    if force {
        let voted = log.read_vote().await?.map_or(0, |vote| vote.leader_id.term);
        let leader_id = LeaderId { term: voted.max(last.leader_id.term) + 1, node_id: me };
        let alone = Membership::new(vec![[me].into()], BTreeMap::from([(me, node)])).map_err(io::Error::other)?;
        let log_id = LogId { leader_id, index: last.index + 1 };
        // It stands for election when it starts, in a term above this one, and wins with its own vote.
        log.save_vote(&Vote { leader_id, committed: false }).await?;
        let entry = Entry { log_id, payload: EntryPayload::Membership(alone) };
        log.blocking_append([entry]).await.map_err(io::Error::other)?;
    }
    Ok(recovery)
}

/// The membership in force: the last in the log, or else the snapshot's.
async fn membership(data_dir: &Path, log: &mut LogStore) -> Result<Option<Membership>, RecoverError> {
    let logged = log.try_get_log_entries(..).await?.into_iter().rev().find_map(|entry| match entry.payload {
        EntryPayload::Membership(membership) => Some(membership),
        EntryPayload::Blank | EntryPayload::Normal(_) => None,
    });
    if logged.is_some() {
        return Ok(logged);
    }
    let path = data_dir.join("snapshots");
    let newest = blocking(move || Snapshots::open(path)?.newest()).await??;
    Ok(newest
        .map(|bytes| decode_snapshot(&bytes))
        .transpose()?
        .map(|(meta, _)| meta.last_membership.membership().clone()))
}
