//! Checkpoints.

use sluice_proto::state::v1 as pb;

use super::{DecodeError, required, shard_id};
use crate::model::{Checkpoint, Epoch, Ledger, Offset, ShardId, TaskState, TaskStatus, TopicPartition, UnixMs};

pub(super) fn to_pb((id, checkpoint): (&ShardId, &Checkpoint)) -> pb::Checkpoint {
    let offset = |(at, next): (&TopicPartition, &Offset)| pb::NextOffset {
        topic: at.topic.clone(),
        partition: at.partition,
        next_offset: next.0,
    };
    pb::Checkpoint {
        pipeline: id.pipeline.to_string(),
        index: id.index,
        epoch: checkpoint.epoch.0,
        taken_at_unix_ms: checkpoint.taken_at.0,
        ledger: Some(checkpoint.ledger.into()),
        next_offsets: checkpoint.next_offsets.iter().map(offset).collect(),
        session: checkpoint.session.as_ref().map(Into::into),
        status: Some(pb::TaskStatus {
            state: pb::TaskState::from(checkpoint.status.state).into(),
            message: checkpoint.status.message.clone(),
        }),
        released: checkpoint.released,
        oldest_unacked_ms: checkpoint.oldest_unacked_ms,
    }
}

pub(super) fn from_pb(checkpoint: pb::Checkpoint) -> Result<(ShardId, Checkpoint), DecodeError> {
    let id = shard_id(&checkpoint.pipeline, checkpoint.index)?;
    let status = required(checkpoint.status, "task status")?;
    let offset = |o: pb::NextOffset| (TopicPartition { topic: o.topic, partition: o.partition }, Offset(o.next_offset));
    let checkpoint = Checkpoint {
        epoch: Epoch(checkpoint.epoch),
        taken_at: UnixMs(checkpoint.taken_at_unix_ms),
        ledger: required(checkpoint.ledger, "ledger")?.into(),
        next_offsets: checkpoint.next_offsets.into_iter().map(offset).collect(),
        session: checkpoint.session.map(Into::into),
        status: TaskStatus { state: status.state().try_into()?, message: status.message },
        released: checkpoint.released,
        oldest_unacked_ms: checkpoint.oldest_unacked_ms,
    };
    Ok((id, checkpoint))
}

impl From<Ledger> for pb::Ledger {
    fn from(ledger: Ledger) -> Self {
        Self {
            received: ledger.received,
            delivered: ledger.delivered,
            filtered: ledger.filtered,
            dead_lettered: ledger.dead_lettered,
            returned: ledger.returned,
            in_flight: ledger.in_flight,
            acked: ledger.acked,
            redelivered: ledger.redelivered,
            sessions_lost: ledger.sessions_lost,
        }
    }
}

impl From<pb::Ledger> for Ledger {
    fn from(ledger: pb::Ledger) -> Self {
        Self {
            received: ledger.received,
            delivered: ledger.delivered,
            filtered: ledger.filtered,
            dead_lettered: ledger.dead_lettered,
            returned: ledger.returned,
            in_flight: ledger.in_flight,
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

impl TryFrom<pb::TaskState> for TaskState {
    type Error = DecodeError;

    fn try_from(state: pb::TaskState) -> Result<Self, DecodeError> {
        Ok(match state {
            pb::TaskState::Unspecified => return Err(DecodeError::Field("task state")),
            pb::TaskState::Connecting => Self::Connecting,
            pb::TaskState::Running => Self::Running,
            pb::TaskState::BackPressure => Self::BackPressure,
            pb::TaskState::Draining => Self::Draining,
            pb::TaskState::Stopped => Self::Stopped,
            pb::TaskState::Failed => Self::Failed,
            pb::TaskState::Retired => Self::Retired,
        })
    }
}
