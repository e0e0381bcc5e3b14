//! Commands, as the Raft log holds them.

use sluice_proto::state::v1::{self as pb, command::Kind as PbKind};

use super::{DecodeError, checkpoint, node_name, required, shard_id};
use crate::{
    machine::{
        ApplyPipeline, AssignShards, CancelMoves, Command, DeletePipeline, InitCluster, Kind, PausePipeline,
        RecordCheckpoints, RegisterMember, RemoveMember, ResumePipeline, SetMemberState, ShardAssignment, StartMoves,
    },
    model::{Generation, NodeName, RaftId, ShardId, UnixMs},
};

impl From<&Command> for pb::Command {
    fn from(command: &Command) -> Self {
        Self { proposed_at_unix_ms: command.proposed_at.0, kind: Some((&command.kind).into()) }
    }
}

impl TryFrom<pb::Command> for Command {
    type Error = DecodeError;

    fn try_from(command: pb::Command) -> Result<Self, DecodeError> {
        let kind = required(command.kind, "command")?.try_into()?;
        Ok(Self { proposed_at: UnixMs(command.proposed_at_unix_ms), kind })
    }
}

impl From<&Kind> for PbKind {
    fn from(kind: &Kind) -> Self {
        match kind {
            Kind::InitCluster(c) => Self::InitCluster(pb::InitCluster { cluster_id: c.cluster_id.to_string() }),
            Kind::RegisterMember(c) => Self::RegisterMember(pb::RegisterMember {
                name: c.name.to_string(),
                raft_id: c.raft_id.0,
                address: c.address.clone(),
                admin_address: c.admin_address.clone(),
            }),
            Kind::ApplyPipeline(c) => Self::ApplyPipeline(pb::ApplyPipeline { spec: Some((&c.spec).into()) }),
            Kind::PausePipeline(c) => Self::PausePipeline(pb::PausePipeline { name: c.name.to_string() }),
            Kind::ResumePipeline(c) => Self::ResumePipeline(pb::ResumePipeline { name: c.name.to_string() }),
            Kind::DeletePipeline(c) => {
                Self::DeletePipeline(pb::DeletePipeline { name: c.name.to_string(), discard: c.discard })
            }
            Kind::AssignShards(c) => {
                Self::AssignShards(pb::AssignShards { assignments: c.assignments.iter().map(Into::into).collect() })
            }
            Kind::RecordCheckpoints(c) => Self::RecordCheckpoints(pb::RecordCheckpoints {
                node: Some((&c.node).into()),
                checkpoints: c.checkpoints.iter().map(|(id, entry)| checkpoint::to_pb((id, entry))).collect(),
            }),
            Kind::SetMemberState(c) => Self::SetMemberState(pb::SetMemberState {
                name: c.name.to_string(),
                state: pb::MemberState::from(c.state).into(),
                generation: c.generation.map_or(0, |generation| generation.0),
            }),
            Kind::RemoveMember(c) => Self::RemoveMember(pb::RemoveMember {
                name: c.name.to_string(),
                force: c.force,
                generation: c.generation.map_or(0, |generation| generation.0),
            }),
            Kind::StartMoves(c) => Self::StartMoves(pb::StartMoves { moves: c.moves.iter().map(move_to_pb).collect() }),
            Kind::CancelMoves(c) => {
                let one = |id: &ShardId| pb::ShardRef { pipeline: id.pipeline.to_string(), index: id.index };
                Self::CancelMoves(pb::CancelMoves { shards: c.shards.iter().map(one).collect() })
            }
        }
    }
}

impl TryFrom<PbKind> for Kind {
    type Error = DecodeError;

    fn try_from(kind: PbKind) -> Result<Self, DecodeError> {
        Ok(match kind {
            PbKind::InitCluster(c) => InitCluster { cluster_id: c.cluster_id.parse()? }.into(),
            PbKind::RegisterMember(c) => RegisterMember {
                name: node_name(&c.name)?,
                raft_id: RaftId(c.raft_id),
                address: c.address,
                admin_address: c.admin_address,
            }
            .into(),
            PbKind::ApplyPipeline(c) => ApplyPipeline { spec: required(c.spec, "pipeline spec")?.try_into()? }.into(),
            PbKind::PausePipeline(c) => PausePipeline { name: c.name.parse()? }.into(),
            PbKind::ResumePipeline(c) => ResumePipeline { name: c.name.parse()? }.into(),
            PbKind::DeletePipeline(c) => DeletePipeline { name: c.name.parse()?, discard: c.discard }.into(),
            PbKind::AssignShards(c) => {
                let assignments = c.assignments.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
                AssignShards { assignments }.into()
            }
            PbKind::RecordCheckpoints(c) => RecordCheckpoints {
                node: required(c.node, "checkpointing node")?.try_into()?,
                checkpoints: c.checkpoints.into_iter().map(checkpoint::from_pb).collect::<Result<_, _>>()?,
            }
            .into(),
            PbKind::SetMemberState(c) => {
                let generation = Some(Generation(c.generation)).filter(|generation| generation.0 > 0);
                SetMemberState { name: node_name(&c.name)?, state: c.state().try_into()?, generation }.into()
            }
            PbKind::RemoveMember(c) => {
                let generation = Some(Generation(c.generation)).filter(|generation| generation.0 > 0);
                RemoveMember { name: node_name(&c.name)?, force: c.force, generation }.into()
            }
            PbKind::StartMoves(c) => {
                StartMoves { moves: c.moves.iter().map(move_from_pb).collect::<Result<_, _>>()? }.into()
            }
            PbKind::CancelMoves(c) => {
                let shards = c.shards.into_iter().map(|id| shard_id(&id.pipeline, id.index));
                CancelMoves { shards: shards.collect::<Result<_, _>>()? }.into()
            }
        })
    }
}

fn move_to_pb((shard, to): &(ShardId, NodeName)) -> pb::Move {
    pb::Move { pipeline: shard.pipeline.to_string(), index: shard.index, to: to.to_string() }
}

fn move_from_pb(one: &pb::Move) -> Result<(ShardId, NodeName), DecodeError> {
    Ok((shard_id(&one.pipeline, one.index)?, node_name(&one.to)?))
}

impl From<&ShardAssignment> for pb::ShardAssignment {
    fn from(assignment: &ShardAssignment) -> Self {
        Self {
            pipeline: assignment.shard.pipeline.to_string(),
            index: assignment.shard.index,
            owner: Some((&assignment.owner).into()),
        }
    }
}

impl TryFrom<pb::ShardAssignment> for ShardAssignment {
    type Error = DecodeError;

    fn try_from(assignment: pb::ShardAssignment) -> Result<Self, DecodeError> {
        Ok(Self {
            shard: shard_id(&assignment.pipeline, assignment.index)?,
            owner: required(assignment.owner, "owner")?.try_into()?,
        })
    }
}
