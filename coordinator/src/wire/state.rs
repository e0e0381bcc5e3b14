//! The whole state, and its members.

use sluice_proto::state::v1 as pb;

use super::{DecodeError, checkpoint, node_name, required, shard};
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
        })
    }
}

fn member_to_pb((name, member): (&NodeName, &Member)) -> pb::Member {
    let state = match member.state {
        MemberState::Active => pb::MemberState::Active,
        MemberState::Draining => pb::MemberState::Draining,
        MemberState::Gone => pb::MemberState::Gone,
    };
    pb::Member {
        name: name.to_string(),
        raft_id: member.raft_id.0,
        generation: member.generation.0,
        address: member.address.clone(),
        state: state.into(),
    }
}

fn member_from_pb(member: pb::Member) -> Result<(NodeName, Member), DecodeError> {
    let state = match member.state() {
        pb::MemberState::Unspecified => None,
        pb::MemberState::Active => Some(MemberState::Active),
        pb::MemberState::Draining => Some(MemberState::Draining),
        pb::MemberState::Gone => Some(MemberState::Gone),
    };
    let checked = Member {
        raft_id: RaftId(member.raft_id),
        generation: Generation(member.generation),
        state: required(state, "member state")?,
        address: member.address,
    };
    Ok((node_name(&member.name)?, checked))
}
