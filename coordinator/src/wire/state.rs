//! The whole state, and its members.

use sluice_proto::state::v1 as pb;

use super::{DecodeError, checkpoint, node_name, shard};
use crate::model::{Epoch, Generation, Member, MemberState, NodeName, Pipeline, RaftId, State};

impl From<&State> for pb::State {
    fn from(state: &State) -> Self {
        Self {
            cluster_id: state.cluster_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            members: state.members.iter().map(member_to_pb).collect(),
            pipelines: state.pipelines.values().map(Into::into).collect(),
            shards: state.shards.iter().map(shard::to_pb).collect(),
            checkpoints: state.checkpoints.iter().map(checkpoint::to_pb).collect(),
            epoch_floor: state.epoch_floor.0,
            removed_raft_ids: state.removed.iter().map(|id| id.0).collect(),
        }
    }
}

impl TryFrom<pb::State> for State {
    type Error = DecodeError;

    fn try_from(state: pb::State) -> Result<Self, DecodeError> {
        let named = |pipeline: pb::Pipeline| {
            let pipeline = Pipeline::try_from(pipeline)?;
            Ok::<_, DecodeError>((pipeline.spec.name.clone(), pipeline))
        };
        Ok(Self {
            cluster_id: match state.cluster_id.as_str() {
                "" => None,
                id => Some(id.parse()?),
            },
            members: state.members.into_iter().map(member_from_pb).collect::<Result<_, _>>()?,
            pipelines: state.pipelines.into_iter().map(named).collect::<Result<_, _>>()?,
            shards: state.shards.into_iter().map(shard::from_pb).collect::<Result<_, _>>()?,
            checkpoints: state.checkpoints.into_iter().map(checkpoint::from_pb).collect::<Result<_, _>>()?,
            epoch_floor: Epoch(state.epoch_floor),
            removed: state.removed_raft_ids.into_iter().map(RaftId).collect(),
        })
    }
}

pub(super) fn member_to_pb((name, member): (&NodeName, &Member)) -> pb::Member {
    pb::Member {
        name: name.to_string(),
        raft_id: member.raft_id.0,
        generation: member.generation.0,
        address: member.address.clone(),
        state: pb::MemberState::from(member.state).into(),
        admin_address: member.admin_address.clone(),
        was_draining: member.was_draining,
    }
}

pub(super) fn member_from_pb(member: pb::Member) -> Result<(NodeName, Member), DecodeError> {
    let checked = Member {
        raft_id: RaftId(member.raft_id),
        generation: Generation(member.generation),
        state: member.state().try_into()?,
        address: member.address,
        admin_address: member.admin_address,
        was_draining: member.was_draining,
    };
    Ok((node_name(&member.name)?, checked))
}

impl From<MemberState> for pb::MemberState {
    fn from(state: MemberState) -> Self {
        match state {
            MemberState::Active => Self::Active,
            MemberState::Draining => Self::Draining,
            MemberState::Stopping => Self::Stopping,
            MemberState::Gone => Self::Gone,
        }
    }
}

impl TryFrom<pb::MemberState> for MemberState {
    type Error = DecodeError;

    fn try_from(state: pb::MemberState) -> Result<Self, DecodeError> {
        Ok(match state {
            pb::MemberState::Unspecified => return Err(DecodeError::Field("member state")),
            pb::MemberState::Active => Self::Active,
            pb::MemberState::Draining => Self::Draining,
            pb::MemberState::Stopping => Self::Stopping,
            pb::MemberState::Gone => Self::Gone,
        })
    }
}
