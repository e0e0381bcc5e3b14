//! What this node should be running, read from the coordinator's state. PURE.

use std::collections::BTreeMap;

use sluice_coordinator::model::{
    Checkpoint, Epoch, Owner, PipelineSpec, PipelineState, Revision, Session, ShardId, SourceIdentity, State,
};

use crate::lane::Purpose;

/// A task that should run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) epoch: Epoch,
    pub(crate) purpose: Purpose,
    /// The revision to run with: the present one, or the one that the session to be ended belongs to.
    pub(crate) revision: Revision,
}

/// What a task needs besides, looked up when it starts.
#[derive(Debug, Clone)]
pub(crate) struct Background {
    pub(crate) spec: PipelineSpec,
    pub(crate) session: Option<Session>,
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// Every task that `me` should run. A shard of a paused pipeline is not among them: it is stopped and given back.
pub(crate) fn desired(state: &State, me: &Owner) -> BTreeMap<ShardId, Desired> {
    let mine = state.shards.iter().filter(|(_, shard)| shard.owner.as_ref() == Some(me));
    mine.filter_map(|(id, shard)| {
        let pipeline = state.pipelines.get(&id.pipeline)?;
        let opened = shard.session.as_ref().map_or(pipeline.revision, |session| session.revision);
        let old = pipeline.spec_at(opened)?;
        let (purpose, revision) = match pipeline.state {
            PipelineState::Paused => return None,
            PipelineState::Running if is_same_session(&old.source, &pipeline.spec.source) => {
                (Purpose::Run, pipeline.revision)
            }
            // Readings wait in the session at the old broker or in the old group: they come first.
            PipelineState::Running | PipelineState::Deleting => (Purpose::Retire, opened),
            PipelineState::Discarding => (Purpose::Discard, opened),
        };
        Some((id.clone(), Desired { epoch: shard.epoch, purpose, revision }))
    })
    .collect()
}

/// What the task of `shard` starts from.
pub(crate) fn background(state: &State, shard: &ShardId, desired: &Desired) -> Option<Background> {
    Some(Background {
        spec: state.pipelines.get(&shard.pipeline)?.spec_at(desired.revision)?.clone(),
        session: state.shards.get(shard)?.session.clone(),
        checkpoint: state.checkpoints.get(shard).cloned(),
    })
}

/// Brokers of one cluster may come and go from the list: the session is the cluster's. It is another's when no server is left.
fn is_same_session(old: &SourceIdentity, new: &SourceIdentity) -> bool {
    old.share_group == new.share_group
        && old.client_id_prefix == new.client_id_prefix
        && old.servers.iter().any(|server| new.servers.contains(server))
}
