//! How a shard leaves the state, and with the last one its pipeline.

use crate::model::{Checkpoint, Shard, ShardId, State, TaskState};

/// Forgets a shard and its checkpoint; forgets the pipeline with its last shard.
pub(super) fn remove_shard(state: &mut State, id: &ShardId) {
    let Some(shard) = state.shards.remove(id) else { return };
    state.epoch_floor = state.epoch_floor.max(shard.epoch);
    state.checkpoints.remove(id);
    if state.shards_of(&id.pipeline).next().is_none() {
        state.pipelines.remove(&id.pipeline);
    }
}

/// Whether nothing of the shard is left at the broker, nor with a node that may have a session for it. `last`: its checkpoint. An owner that
/// has ended the shard's session says so before it opens another, and that it will open one; it says neither twice.
pub(super) fn is_idle(shard: &Shard, last: Option<&Checkpoint>) -> bool {
    let is_retired = |last: &Checkpoint| last.epoch == shard.epoch && last.status.state == TaskState::Retired;
    shard.session.is_none() && (shard.owner.is_none() || last.is_some_and(is_retired))
}
