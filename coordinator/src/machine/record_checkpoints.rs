//! Takes in what one node has to say of its shards. Each entry stands or falls alone.
//!
//! Here an older epoch is fenced: what a former owner still reports changes nothing.

use std::collections::BTreeSet;

use super::{CheckpointRefusal, Outcome, Refusal, RefusedCheckpoint, earlier, removal};
use crate::model::{Checkpoint, Owner, PipelineName, ShardId, State, TaskState, UnixMs};

/// What one node has to say of its shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordCheckpoints {
    /// Who says it.
    pub node: Owner,
    /// One entry a shard.
    pub checkpoints: Vec<(ShardId, Checkpoint)>,
}

impl RecordCheckpoints {
    pub(super) fn apply(self, state: &mut State, at: UnixMs) -> Result<Outcome, Refusal> {
        let mut refused = Vec::new();
        let mut touched = BTreeSet::new();
        for (shard, checkpoint) in self.checkpoints {
            match check(state, &self.node, &shard, &checkpoint) {
                Ok(()) => {
                    touched.insert(shard.pipeline.clone());
                    take(state, shard, checkpoint, at);
                }
                Err(reason) => refused.push(RefusedCheckpoint { epoch: checkpoint.epoch, shard, reason }),
            }
        }
        for pipeline in &touched {
            earlier::prune(state, pipeline);
        }
        Ok(Outcome::Recorded { refused })
    }
}

fn check(state: &State, from: &Owner, id: &ShardId, checkpoint: &Checkpoint) -> Result<(), CheckpointRefusal> {
    let shard = state.shards.get(id).ok_or(CheckpointRefusal::NoShard)?;
    let pipeline = state.pipelines.get(&id.pipeline).ok_or(CheckpointRefusal::NoShard)?;
    if shard.epoch != checkpoint.epoch {
        return Err(CheckpointRefusal::StaleEpoch { current: shard.epoch });
    }
    if shard.owner.as_ref() != Some(from) {
        return Err(CheckpointRefusal::NotOwner);
    }
    match &checkpoint.session {
        Some(session) if pipeline.spec_at(session.revision).is_none() => {
            Err(CheckpointRefusal::UnknownRevision { revision: session.revision })
        }
        _ => Ok(()),
    }
}

fn take(state: &mut State, id: ShardId, checkpoint: Checkpoint, at: UnixMs) {
    if is_retired(state, &id.pipeline, &checkpoint) {
        return removal::remove_shard(state, &id);
    }
    let Some(shard) = state.shards.get_mut(&id) else { return };
    shard.session.clone_from(&checkpoint.session);
    if checkpoint.released {
        shard.owner = None;
        shard.since = at;
    }
    state.checkpoints.insert(id, checkpoint);
}

/// Whether the shard of an ending pipeline has nothing left at the broker.
fn is_retired(state: &State, pipeline: &PipelineName, checkpoint: &Checkpoint) -> bool {
    let is_ending = state.pipelines.get(pipeline).is_some_and(|pipeline| pipeline.state.is_ending());
    is_ending && checkpoint.session.is_none() && checkpoint.status.state == TaskState::Retired
}
