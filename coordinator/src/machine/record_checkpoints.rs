//! Takes in what one node has to say of its shards. Each entry stands or falls alone.
//!
//! Here an older epoch is fenced: what a former owner still reports changes nothing. And here a planned move comes to its end:
//! the shard that is released goes to its target in the same breath.

use std::collections::BTreeSet;

use super::{CheckpointRefusal, Outcome, Refusal, RefusedCheckpoint, earlier, removal};
use crate::model::{
    Checkpoint, MemberState, NodeName, Owner, Pipeline, PipelineState, Shard, ShardId, State, TaskState, UnixMs,
};

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
    let is_gone = state.members.get(&from.node).is_none_or(|member| member.state == MemberState::Gone);
    if is_gone || shard.owner.as_ref() != Some(from) {
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
    let State { shards, pipelines, members, .. } = &mut *state;
    let (Some(shard), Some(pipeline)) = (shards.get_mut(&id), pipelines.get(&id.pipeline)) else { return };
    if is_retired(pipeline, shard, &checkpoint) {
        return removal::remove_shard(state, &id);
    }
    shard.session.clone_from(&checkpoint.session);
    if checkpoint.released {
        let to = shard.handover.take().map(|handover| handover.to);
        let target = |node: NodeName| {
            let member = members.get(&node).filter(|member| member.state == MemberState::Active)?;
            Some(Owner { node, generation: member.generation })
        };
        // A paused pipeline's shard is released to rest, not to go on elsewhere.
        shard.owner = to.filter(|_| pipeline.state != PipelineState::Paused).and_then(target);
        if shard.owner.is_some() {
            shard.epoch = shard.epoch.next();
        }
        shard.since = at;
    }
    state.checkpoints.insert(id, checkpoint);
}

/// Whether a shard that is to go has nothing left at the broker.
fn is_retired(pipeline: &Pipeline, shard: &Shard, checkpoint: &Checkpoint) -> bool {
    let is_to_go = pipeline.state.is_ending() || shard.is_retiring;
    is_to_go && checkpoint.session.is_none() && checkpoint.status.state == TaskState::Retired
}
