//! How a shard leaves the state, and with the last one its pipeline.

use crate::model::{ShardId, State};

/// Forgets a shard and its checkpoint; forgets the pipeline with its last shard.
pub(super) fn remove_shard(state: &mut State, id: &ShardId) {
    let Some(shard) = state.shards.remove(id) else { return };
    state.epoch_floor = state.epoch_floor.max(shard.epoch);
    state.checkpoints.remove(id);
    if state.shards_of(&id.pipeline).next().is_none() {
        state.pipelines.remove(&id.pipeline);
    }
}
