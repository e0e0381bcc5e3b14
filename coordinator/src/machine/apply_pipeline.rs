//! Creates a pipeline or changes it to what the spec says. Idempotent.
//!
//! Growth adds shards. With fewer shards, where the spec allows it, those past the count retire: they keep owner and epoch until they are read empty and
//! their sessions ended; what has neither owner nor session goes at once. An index cannot come again before it has gone.

use std::collections::BTreeMap;

use super::{Outcome, Refusal, earlier, removal};
use crate::model::{Pipeline, PipelineName, PipelineSpec, PipelineState, Revision, Shard, ShardId, State, UnixMs};

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
            Some(now) => {
                sheds_shards(now, &self.spec)?;
                still_retiring(state, &self.spec)?;
                changed(now, self.spec, at)?
            }
        };
        for index in 0..pipeline.spec.shards.get() {
            let epoch = state.epoch_floor;
            let unowned = || Shard { owner: None, epoch, since: at, session: None, handover: None, is_retiring: false };
            state.shards.entry(ShardId::new(&name, index)).or_insert_with(unowned);
        }
        retire_from(state, &name, pipeline.spec.shards.get());
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

/// Refuses fewer shards where what the broker has queued for those that go might be lost.
fn sheds_shards(now: &Pipeline, spec: &PipelineSpec) -> Result<(), Refusal> {
    let (before, after) = (now.spec.shards, spec.shards);
    if after >= before || !spec.must_keep_shards {
        return Ok(());
    }
    Err(Refusal::not_now(format!(
        "pipeline {} has {before} shards and would have {after}: those that go unsubscribe and are read empty, and MQTT leaves it to \
         the broker whether it still delivers what it had queued for them; Mosquitto and HiveMQ do, and if yours does, say so in the \
         manifest: source.mqtt.delivers_after_unsubscribe: true",
        spec.name
    )))
}

/// Refuses a spec that wants an index whose former shard has not gone yet.
fn still_retiring(state: &State, spec: &PipelineSpec) -> Result<(), Refusal> {
    let wanted = ShardId::new(&spec.name, 0)..ShardId::new(&spec.name, spec.shards.get());
    let count = state.shards.range(wanted).filter(|(_, shard)| shard.is_retiring).count();
    if count == 0 {
        return Ok(());
    }
    Err(Refusal::not_now(format!(
        "pipeline {} still retires {count} of the shards that it would have again: wait until they are gone, then apply it again",
        spec.name
    )))
}

/// What is past the count, from `first` on, has to go.
fn retire_from(state: &mut State, name: &PipelineName, first: u32) {
    let beyond = ShardId::new(name, first)..=ShardId::new(name, u32::MAX);
    let (State { shards, checkpoints, .. }, mut idle) = (&mut *state, Vec::new());
    for (id, shard) in shards.range_mut(beyond) {
        shard.is_retiring = true;
        if removal::is_idle(shard, checkpoints.get(id)) {
            idle.push(id.clone());
        }
    }
    for id in &idle {
        removal::remove_shard(state, id);
    }
}
