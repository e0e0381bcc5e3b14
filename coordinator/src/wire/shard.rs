//! Shards, owners, sessions.

use sluice_proto::state::v1 as pb;

use super::{DecodeError, node_name, shard_id};
use crate::model::{Epoch, Generation, Handover, Owner, Revision, Session, Shard, ShardId, UnixMs};

impl From<&Owner> for pb::Owner {
    fn from(owner: &Owner) -> Self {
        Self { node: owner.node.to_string(), generation: owner.generation.0 }
    }
}

impl TryFrom<pb::Owner> for Owner {
    type Error = DecodeError;

    fn try_from(owner: pb::Owner) -> Result<Self, DecodeError> {
        Ok(Self { node: node_name(&owner.node)?, generation: Generation(owner.generation) })
    }
}

impl From<&Handover> for pb::Handover {
    fn from(handover: &Handover) -> Self {
        Self { to: handover.to.to_string(), since_unix_ms: handover.since.0 }
    }
}

impl TryFrom<pb::Handover> for Handover {
    type Error = DecodeError;

    fn try_from(handover: pb::Handover) -> Result<Self, DecodeError> {
        Ok(Self { to: node_name(&handover.to)?, since: UnixMs(handover.since_unix_ms) })
    }
}

impl From<&Session> for pb::Session {
    fn from(session: &Session) -> Self {
        Self { revision: session.revision.0, filters: session.filters.clone(), is_open: session.is_open }
    }
}

impl From<pb::Session> for Session {
    fn from(session: pb::Session) -> Self {
        Self { revision: Revision(session.revision), filters: session.filters, is_open: session.is_open }
    }
}

pub(super) fn to_pb((id, shard): (&ShardId, &Shard)) -> pb::Shard {
    pb::Shard {
        pipeline: id.pipeline.to_string(),
        index: id.index,
        owner: shard.owner.as_ref().map(Into::into),
        epoch: shard.epoch.0,
        since_unix_ms: shard.since.0,
        session: shard.session.as_ref().map(Into::into),
        handover: shard.handover.as_ref().map(Into::into),
        is_retiring: shard.is_retiring,
    }
}

pub(super) fn from_pb(shard: pb::Shard) -> Result<(ShardId, Shard), DecodeError> {
    let id = shard_id(&shard.pipeline, shard.index)?;
    let shard = Shard {
        owner: shard.owner.map(TryInto::try_into).transpose()?,
        epoch: Epoch(shard.epoch),
        since: UnixMs(shard.since_unix_ms),
        session: shard.session.map(Into::into),
        handover: shard.handover.map(TryInto::try_into).transpose()?,
        is_retiring: shard.is_retiring,
    };
    Ok((id, shard))
}
