//! Creates a pipeline or changes it to what the spec says. Idempotent.
//!
//! Growth adds shards. Taking shards away is refused: a shard that goes must first be read empty, which a later version brings.

use std::collections::BTreeMap;

use super::{Outcome, Refusal, earlier};
use crate::model::{Pipeline, PipelineSpec, PipelineState, Revision, Shard, ShardId, State, UnixMs};

/// Most earlier specs that a pipeline keeps for sessions that still belong to them. They pile up only while its shards cannot
/// connect; at 256 KiB a manifest this bounds a pipeline to 16 MiB of state.
pub const EARLIER_SPECS_MAX: usize = 64;

/// Creates or changes a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyPipeline {
    /// What it is to be.
    pub spec: PipelineSpec,
}

impl ApplyPipeline {
    pub(super) fn apply(self, state: &mut State, at: UnixMs) -> Result<Outcome, Refusal> {
        let name = self.spec.name.clone();
        let pipeline = match state.pipelines.get(&name) {
            None => new(self.spec, at),
            Some(now) if now.state.is_ending() => return Err(Refusal::pipeline_is_ending(&name)),
            Some(now) if now.spec == self.spec => {
                return Ok(Outcome::Pipeline { pipeline: Box::new(now.clone()), changed: false });
            }
            Some(now) => changed(now, self.spec, at)?,
        };
        for index in 0..pipeline.spec.shards.get() {
            let epoch = state.epoch_floor;
            let unowned = || Shard { owner: None, epoch, since: at, session: None };
            state.shards.entry(ShardId::new(&name, index)).or_insert_with(unowned);
        }
        state.pipelines.insert(name.clone(), pipeline);
        earlier::prune(state, &name);
        let pipeline = Box::new(state.pipelines[&name].clone());
        Ok(Outcome::Pipeline { pipeline, changed: true })
    }
}

fn new(spec: PipelineSpec, at: UnixMs) -> Pipeline {
    Pipeline { spec, revision: Revision(1), state: PipelineState::Running, applied_at: at, earlier: BTreeMap::new() }
}

fn changed(now: &Pipeline, spec: PipelineSpec, at: UnixMs) -> Result<Pipeline, Refusal> {
    if spec.shards < now.spec.shards {
        return Err(Refusal::not_now(format!(
            "pipeline {} has {} shards and cannot go down to {}: taking shards away comes with a later version; keep at least {}, \
             or delete the pipeline and apply it again",
            spec.name, now.spec.shards, spec.shards, now.spec.shards
        )));
    }
    if now.earlier.len() >= EARLIER_SPECS_MAX {
        return Err(Refusal::not_now(format!(
            "pipeline {} keeps {EARLIER_SPECS_MAX} earlier specs for sessions not yet moved to a newer one: wait until its shards \
             have connected, or delete the pipeline",
            spec.name
        )));
    }
    let mut next = now.clone();
    next.earlier.insert(now.revision, std::mem::replace(&mut next.spec, spec));
    next.revision = now.revision.next();
    next.applied_at = at;
    Ok(next)
}
