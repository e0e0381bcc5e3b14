//! What the planner has decided so far, and the commands that say it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    machine::{AssignShards, CancelMoves, Command, Kind, ShardAssignment, StartMoves},
    model::{NodeName, Owner, ShardId, UnixMs},
};

/// Most shards in one command, so that a log entry stays well below 1 MiB.
pub const SHARDS_PER_COMMAND_MAX: usize = 1_000;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Decisions<'a> {
    cancelled: BTreeSet<&'a ShardId>,
    assigned: BTreeMap<&'a ShardId, Owner>,
    moved: BTreeMap<&'a ShardId, &'a NodeName>,
}

impl<'a> Decisions<'a> {
    /// The move under way leads nowhere any more.
    pub(super) fn cancel(&mut self, shard: &'a ShardId) {
        self.cancelled.insert(shard);
    }

    /// The shard is the owner's, now.
    pub(super) fn assign(&mut self, shard: &'a ShardId, owner: Owner) {
        self.assigned.insert(shard, owner);
    }

    /// The shard's owner is to release it to `node`. Takes the place of a move under way.
    pub(super) fn start_move(&mut self, shard: &'a ShardId, node: &'a NodeName) {
        self.cancelled.remove(shard);
        self.moved.insert(shard, node);
    }

    /// In the order in which they must be applied: a shard that gets an owner may at once be told to move on.
    pub(super) fn into_commands(self, now: UnixMs) -> Vec<Command> {
        let cancelled: Vec<_> = self.cancelled.into_iter().cloned().collect();
        let assigned = self.assigned.into_iter().map(|(id, owner)| ShardAssignment { shard: id.clone(), owner });
        let assigned: Vec<_> = assigned.collect();
        let moved: Vec<_> = self.moved.into_iter().map(|(id, to)| (id.clone(), to.clone())).collect();

        let cancels = chunks(&cancelled, |shards| CancelMoves { shards }.into());
        let assigns = chunks(&assigned, |assignments| AssignShards { assignments }.into());
        let moves = chunks(&moved, |moves| StartMoves { moves }.into());
        cancels.chain(assigns).chain(moves).map(|kind| Command { proposed_at: now, kind }).collect()
    }
}

fn chunks<T: Clone>(all: &[T], command: impl Fn(Vec<T>) -> Kind) -> impl Iterator<Item = Kind> {
    all.chunks(SHARDS_PER_COMMAND_MAX).map(move |chunk| command(chunk.to_vec()))
}
