//! What operators are shown of the state.

use sluice_proto::{admin::v1 as pb, state::v1 as state_pb};

use crate::model::{Checkpoint, Ledger, Pipeline, PipelineState, Shard, ShardId, State, TaskState, UnixMs};

impl From<&Pipeline> for pb::Pipeline {
    fn from(pipeline: &Pipeline) -> Self {
        let state = match pipeline.state {
            PipelineState::Running => pb::PipelineState::Running,
            PipelineState::Paused => pb::PipelineState::Paused,
            PipelineState::Deleting => pb::PipelineState::Deleting,
            PipelineState::Discarding => pb::PipelineState::Discarding,
        };
        Self {
            name: pipeline.spec.name.to_string(),
            revision: pipeline.revision.0,
            state: state.into(),
            shards: pipeline.spec.shards.get(),
            filters: pipeline.spec.filters.clone(),
            applied_at_unix_ms: pipeline.applied_at.0,
            manifest: pipeline.spec.manifest.clone(),
        }
    }
}

/// One shard's assignment, with the word of its last checkpoint.
pub(crate) fn assignment(state: &State, id: &ShardId, shard: &Shard) -> pb::Assignment {
    // What an earlier owner said is over.
    let present = state.checkpoints.get(id).filter(|checkpoint| checkpoint.epoch == shard.epoch);
    let status = present.map(|checkpoint| &checkpoint.status);
    pb::Assignment {
        pipeline: id.pipeline.to_string(),
        index: id.index,
        node: shard.owner.as_ref().map(|owner| owner.node.to_string()).unwrap_or_default(),
        generation: shard.owner.as_ref().map_or(0, |owner| owner.generation.0),
        epoch: shard.epoch.0,
        since_unix_ms: shard.since.0,
        state: status.map_or(pb::TaskState::Unspecified, |status| status.state.into()).into(),
        message: status.map(|status| status.message.clone()).unwrap_or_default(),
        ..pb::Assignment::default()
    }
}

/// One shard's checkpoint, as old as it is `now`.
pub(crate) fn checkpoint(id: &ShardId, checkpoint: &Checkpoint, now: UnixMs) -> pb::Checkpoint {
    let stored = super::checkpoint::to_pb((id, checkpoint));
    let offset =
        |o: state_pb::NextOffset| pb::NextOffset { topic: o.topic, partition: o.partition, next_offset: o.next_offset };
    pb::Checkpoint {
        pipeline: stored.pipeline,
        index: stored.index,
        epoch: stored.epoch,
        taken_at_unix_ms: stored.taken_at_unix_ms,
        age_ms: now.millis_since(checkpoint.taken_at),
        ledger: Some((&checkpoint.ledger).into()),
        next_offsets: stored.next_offsets.into_iter().map(offset).collect(),
        oldest_unacked_ms: stored.oldest_unacked_ms,
        released: stored.released,
    }
}

impl From<&Ledger> for pb::Ledger {
    fn from(ledger: &Ledger) -> Self {
        Self {
            received: ledger.received,
            delivered: ledger.delivered,
            filtered: ledger.filtered,
            dead_lettered: ledger.dead_lettered,
            returned: ledger.returned,
            in_flight: ledger.in_flight,
            unaccounted: ledger.unaccounted(),
            acked: ledger.acked,
            redelivered: ledger.redelivered,
            sessions_lost: ledger.sessions_lost,
        }
    }
}

impl From<TaskState> for pb::TaskState {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Connecting => Self::Connecting,
            TaskState::Running => Self::Running,
            TaskState::BackPressure => Self::BackPressure,
            TaskState::Draining => Self::Draining,
            TaskState::Stopped => Self::Stopped,
            TaskState::Failed => Self::Failed,
            TaskState::Retired => Self::Retired,
        }
    }
}
