//! The last resort of a cluster that has lost most of its voters for good: one disk's node becomes the only voter.
//!
//! Offline, on a stopped node's data directory. What only the lost voters had is lost. The other disks still believe in the old
//! group, and most of them, started again, elect a leader of their own. So the disk goes on under a Raft id that the old group does not
//! know and cannot call, and the others are removed: they are refused here. None of them may be started again all the same, since
//! there would be two clusters with the same shards.

use std::{collections::BTreeMap, io, path::Path};

use openraft::{EntryPayload, RaftLogReader as _, impls::leader_id_adv::LeaderId, storage::RaftLogStorage as _};

use super::{
    codec::decode_snapshot,
    discard,
    files::{LOG, SNAPSHOTS},
    group::{blocking, finish_recovery},
    identity::{self, DataDir, Identity},
    log_store::LogStore,
    snapshots::Snapshots,
    types::{Entry, LogId, Membership, Vote},
};
use crate::{
    clock::now,
    coordinator::StartError,
    machine::{self, Command, RemoveMember},
    model::{ClusterId, NodeName, RaftId, State},
};

/// What a recovery does, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The cluster that goes on.
    pub cluster_id: ClusterId,
    /// The Raft id of the disk: as it goes on if it was done, as it is otherwise.
    pub raft_id: RaftId,
    /// The node that goes on.
    pub node: String,
    /// Index of the last entry that it has. Later ones, if there were any, are lost.
    pub last_log: u64,
    /// Names of the voters and learners that are left behind, and removed. Their disks must never be started again.
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
    let (mut dir, mut log) = open_existing(data_dir).await?;
    let recovered = recover_log(data_dir, dir.identity(), &mut log, force).await;
    log.close().await?;
    let recovered = recovered?;
    if recovered.is_done {
        // Were it not for this, the next start would do it.
        dir.set_raft_id(recovered.raft_id)?;
    }
    Ok(recovered)
}

/// Takes the data directory of a node that has been here, and makes nothing in any other.
async fn open_existing(data_dir: &Path) -> Result<(DataDir, LogStore), RecoverError> {
    let (path, log_path) = (data_dir.to_owned(), data_dir.join(LOG));
    // One that was thrown away is emptied with its next start.
    if !DataDir::is_one(data_dir) || discard::is_discarded(data_dir) {
        return Err(RecoverError::Nothing);
    }
    let mut dir = blocking(move || DataDir::open(&path)).await?.map_err(StartError::from)?;
    if !log_path.exists() {
        dir.check_log(None, true).map_err(StartError::from)?;
        return Err(RecoverError::Nothing);
    }
    let log = blocking(move || LogStore::open(&log_path)).await??;
    finish_recovery(&mut dir, &log)?;
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
    let Known { membership, state } = Known::load(data_dir, log).await?;
    let membership = membership.ok_or(RecoverError::Nothing)?;
    let me = identity.raft_id;
    let node = membership.get_node(&me.0).cloned().ok_or(RecoverError::NoMember)?;
    if membership.voter_ids().eq([me.0]) {
        return Err(RecoverError::Alone);
    }
    let last = log.get_log_state().await?.last_log_id.ok_or(RecoverError::Nothing)?;
    let others: Vec<_> = membership.nodes().filter(|(id, _)| **id != me.0).collect();
    let mut recovery = Recovery {
        cluster_id,
        raft_id: me,
        node: node.name.clone(),
        last_log: last.index,
        left_behind: others.iter().map(|(_, node)| node.name.clone()).collect(),
        is_done: force,
    };
    if force {
        recovery.raft_id = identity::draw();
        let voted = log.read_vote().await?.map_or(0, |vote| vote.leader_id.term);
        let leader_id = LeaderId { term: voted.max(last.leader_id.term) + 1, node_id: recovery.raft_id.0 };
        let alone = Membership::new(vec![[leader_id.node_id].into()], BTreeMap::from([(leader_id.node_id, node)]));
        let alone = EntryPayload::Membership(alone.map_err(io::Error::other)?);
        let removals = others.into_iter().filter_map(|(id, node)| removal(&state, RaftId(*id), &node.name));
        let payloads = [alone].into_iter().chain(removals.map(EntryPayload::Normal));
        let log_ids = (last.index + 1..).map(|index| LogId { leader_id, index });
        let entries: Vec<_> = log_ids.zip(payloads).map(|(log_id, payload)| Entry { log_id, payload }).collect();
        // It stands for election when it starts, in a term above this one, and wins with its own vote.
        log.pass_to(recovery.raft_id, me, &Vote { leader_id, committed: false }, &entries).await?;
    }
    Ok(recovery)
}

/// What keeps a disk that is left behind away, unless the member of that name has another one by now.
fn removal(state: &State, id: RaftId, name: &str) -> Option<Command> {
    let name: NodeName = name.parse().ok()?;
    let kind = RemoveMember { name: name.clone(), force: true, generation: None }.into();
    let is_its = state.members.get(&name).is_some_and(|member| member.raft_id == id);
    is_its.then(|| Command { proposed_at: now(), kind })
}

/// What this disk knows, committed or not: all of it goes on.
#[derive(Default)]
struct Known {
    membership: Option<Membership>,
    state: State,
}

impl Known {
    async fn load(data_dir: &Path, log: &mut LogStore) -> Result<Self, RecoverError> {
        let path = data_dir.join(SNAPSHOTS);
        let newest = blocking(move || Snapshots::open(path)?.newest()).await??;
        let snapshot = newest.map(|bytes| decode_snapshot(&bytes)).transpose()?;
        let (mut known, mut last) = (Self::default(), None);
        if let Some((meta, state)) = snapshot {
            last = meta.last_log_id.map(|last| last.index);
            known = Self { membership: Some(meta.last_membership.membership().clone()), state };
        }
        for entry in log.try_get_log_entries(..).await? {
            match entry.payload {
                EntryPayload::Membership(membership) => known.membership = Some(membership),
                EntryPayload::Normal(command) if last.is_none_or(|last| entry.log_id.index > last) => {
                    machine::apply(&mut known.state, command);
                }
                EntryPayload::Blank | EntryPayload::Normal(_) => {}
            }
        }
        Ok(known)
    }
}
