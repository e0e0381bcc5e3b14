//! Which earlier specs of a pipeline are still needed.
//!
//! A shard whose session belongs to an earlier spec is drained and ended with that spec. What the state knows of a session is
//! its owner's last checkpoint; an owner may since have ended that session and opened one of any newer revision, and may die
//! before it tells. So an owned shard needs every spec from its known session's on, and one that has never told needs all.
//! An unowned shard was released with a last word, which is exact.

use crate::model::{PipelineName, Revision, Shard, State};

/// Drops the earlier specs of `pipeline` that no session can belong to any more.
pub(super) fn prune(state: &mut State, name: &PipelineName) {
    let Some(mut pipeline) = state.pipelines.remove(name) else { return };
    pipeline.earlier.retain(|revision, _| state.shards_of(name).any(|(_, shard)| may_belong(shard, *revision)));
    state.pipelines.insert(name.clone(), pipeline);
}

/// Whether the shard's session may have been opened with the spec of `revision`.
pub(super) fn may_belong(shard: &Shard, revision: Revision) -> bool {
    let known = shard.session.as_ref().map(|session| session.revision);
    if shard.owner.is_some() { known.is_none_or(|known| revision >= known) } else { known == Some(revision) }
}
