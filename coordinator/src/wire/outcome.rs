//! Outcomes, as the leader tells them to the node that had it propose.

use sluice_proto::{cluster::v1 as pb, state::v1 as state_pb};

use super::{DecodeError, required, shard_id, state};
use crate::{
    machine::{CheckpointRefusal, Outcome, Refusal, RefusalKind, RefusedCheckpoint},
    model::{Epoch, Generation, NodeName, Revision, ShardId},
};

impl From<&Outcome> for pb::Outcome {
    fn from(outcome: &Outcome) -> Self {
        use pb::outcome::Kind;
        let count = |changed: usize| pb::Changed { changed: changed as u64 };
        let kind = match outcome {
            Outcome::Initialized => Kind::Initialized(pb::Initialized {}),
            Outcome::Registered { generation } => Kind::Registered(pb::Registered { generation: generation.0 }),
            Outcome::Pipeline { pipeline, changed } => {
                let pipeline = Some(state_pb::Pipeline::from(&**pipeline));
                Kind::Pipeline(pb::PipelineOutcome { pipeline, changed: *changed })
            }
            Outcome::Assigned { changed } => Kind::Assigned(count(*changed)),
            Outcome::Recorded { refused } => {
                Kind::Recorded(pb::Recorded { refused: refused.iter().map(Into::into).collect() })
            }
            Outcome::Member { member, changed } => {
                let member = Some(state::member_to_pb((&unnamed(), member)));
                Kind::Member(pb::MemberOutcome { member, changed: *changed })
            }
            Outcome::Moves { changed } => Kind::Moves(count(*changed)),
            Outcome::Refused(refusal) => Kind::Refused(refusal.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<pb::Outcome> for Outcome {
    type Error = DecodeError;

    fn try_from(outcome: pb::Outcome) -> Result<Self, DecodeError> {
        use pb::outcome::Kind;
        let count = |c: pb::Changed| usize::try_from(c.changed).map_err(|_| DecodeError::Field("count of changes"));
        Ok(match required(outcome.kind, "outcome")? {
            Kind::Initialized(_) => Self::Initialized,
            Kind::Registered(r) => Self::Registered { generation: Generation(r.generation) },
            Kind::Pipeline(p) => {
                Self::Pipeline { pipeline: Box::new(required(p.pipeline, "pipeline")?.try_into()?), changed: p.changed }
            }
            Kind::Assigned(c) => Self::Assigned { changed: count(c)? },
            Kind::Recorded(r) => {
                Self::Recorded { refused: r.refused.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()? }
            }
            Kind::Member(m) => {
                let (_, member) = state::member_from_pb(required(m.member, "member")?)?;
                Self::Member { member: Box::new(member), changed: m.changed }
            }
            Kind::Moves(c) => Self::Moves { changed: count(c)? },
            Kind::Refused(r) => Self::Refused(r.try_into()?),
        })
    }
}

/// Whoever proposed knows which member it was about; the stored form of a member wants a name.
fn unnamed() -> NodeName {
    match "unnamed".parse() {
        Ok(name) => name,
        Err(error) => unreachable!("a constant that is a name: {error}"),
    }
}

pub(crate) fn shard_to_pb(id: &ShardId) -> pb::ShardId {
    pb::ShardId { pipeline: id.pipeline.to_string(), index: id.index }
}

pub(crate) fn shard_from_pb(id: &pb::ShardId) -> Result<ShardId, DecodeError> {
    shard_id(&id.pipeline, id.index)
}

impl From<&RefusedCheckpoint> for pb::RefusedCheckpoint {
    fn from(refused: &RefusedCheckpoint) -> Self {
        let (reason, number) = match refused.reason {
            CheckpointRefusal::NoShard => (pb::CheckpointRefusal::NoShard, 0),
            CheckpointRefusal::StaleEpoch { current } => (pb::CheckpointRefusal::StaleEpoch, current.0),
            CheckpointRefusal::NotOwner => (pb::CheckpointRefusal::NotOwner, 0),
            CheckpointRefusal::UnknownRevision { revision } => (pb::CheckpointRefusal::UnknownRevision, revision.0),
        };
        let shard = Some(shard_to_pb(&refused.shard));
        Self { shard, epoch: refused.epoch.0, reason: reason.into(), number }
    }
}

impl TryFrom<pb::RefusedCheckpoint> for RefusedCheckpoint {
    type Error = DecodeError;

    fn try_from(refused: pb::RefusedCheckpoint) -> Result<Self, DecodeError> {
        let number = refused.number;
        let reason = match refused.reason() {
            pb::CheckpointRefusal::Unspecified => return Err(DecodeError::Field("reason of a refusal")),
            pb::CheckpointRefusal::NoShard => CheckpointRefusal::NoShard,
            pb::CheckpointRefusal::StaleEpoch => CheckpointRefusal::StaleEpoch { current: Epoch(number) },
            pb::CheckpointRefusal::NotOwner => CheckpointRefusal::NotOwner,
            pb::CheckpointRefusal::UnknownRevision => CheckpointRefusal::UnknownRevision { revision: Revision(number) },
        };
        let shard = shard_from_pb(&required(refused.shard, "shard")?)?;
        Ok(Self { shard, epoch: Epoch(refused.epoch), reason })
    }
}

impl From<&Refusal> for pb::Refusal {
    fn from(refusal: &Refusal) -> Self {
        let kind = match refusal.kind {
            RefusalKind::NotFound => pb::RefusalKind::NotFound,
            RefusalKind::NotNow => pb::RefusalKind::NotNow,
        };
        Self { kind: kind.into(), message: refusal.message.clone() }
    }
}

impl TryFrom<pb::Refusal> for Refusal {
    type Error = DecodeError;

    fn try_from(refusal: pb::Refusal) -> Result<Self, DecodeError> {
        let kind = match refusal.kind() {
            pb::RefusalKind::Unspecified => return Err(DecodeError::Field("kind of a refusal")),
            pb::RefusalKind::NotFound => RefusalKind::NotFound,
            pb::RefusalKind::NotNow => RefusalKind::NotNow,
        };
        Ok(Self { kind, message: refusal.message })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn outcomes_come_back_as_they_were() {
        let shard = ShardId { pipeline: "p".parse().unwrap(), index: 3 };
        let refused = |reason| RefusedCheckpoint { shard: shard.clone(), epoch: Epoch(2), reason };
        let all = [
            CheckpointRefusal::NoShard,
            CheckpointRefusal::StaleEpoch { current: Epoch(4) },
            CheckpointRefusal::NotOwner,
            CheckpointRefusal::UnknownRevision { revision: Revision(7) },
        ];
        let outcomes = [
            Outcome::Initialized,
            Outcome::Registered { generation: Generation(9) },
            Outcome::Assigned { changed: 5 },
            Outcome::Moves { changed: 0 },
            Outcome::Recorded { refused: all.map(refused).into() },
            Outcome::Refused(Refusal { kind: RefusalKind::NotFound, message: "no".to_owned() }),
            Outcome::Refused(Refusal { kind: RefusalKind::NotNow, message: "later".to_owned() }),
        ];
        for outcome in outcomes {
            assert_eq!(Outcome::try_from(pb::Outcome::from(&outcome)).unwrap(), outcome);
        }
        assert!(Outcome::try_from(pb::Outcome::default()).is_err());
    }
}
