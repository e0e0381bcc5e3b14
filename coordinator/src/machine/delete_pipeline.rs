//! Starts the end of a pipeline: its shards are drained, their sessions ended, then it goes.
//!
//! A shard with neither owner nor session has nothing at the broker and goes at once, and so does one whose owner has ended its session
//! and opened no other; with the last one goes the pipeline.

use super::{Outcome, Refusal, earlier, removal};
use crate::model::{PipelineName, PipelineState, ShardId, State, UnixMs};

/// Starts the end of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletePipeline {
    /// Which pipeline.
    pub name: PipelineName,
    /// End the sessions at once; what the MQTT broker still queues for them is lost.
    pub discard: bool,
}

impl DeletePipeline {
    pub(super) fn apply(self, state: &mut State, _at: UnixMs) -> Result<Outcome, Refusal> {
        let pipeline = state.pipelines.get_mut(&self.name).ok_or_else(|| Refusal::no_pipeline(&self.name))?;
        // Once told to discard, there may be nothing left that draining could save.
        let wanted = match (self.discard, pipeline.state) {
            (false, PipelineState::Discarding) | (true, _) => PipelineState::Discarding,
            (false, _) => PipelineState::Deleting,
        };
        let changed = pipeline.state != wanted;
        pipeline.state = wanted;
        let pipeline = Box::new(pipeline.clone());
        let idle: Vec<ShardId> = state
            .shards_of(&self.name)
            .filter(|(id, shard)| removal::is_idle(shard, state.checkpoints.get(*id)))
            .map(|(id, _)| id.clone())
            .collect();
        for shard in &idle {
            removal::remove_shard(state, shard);
        }
        earlier::prune(state, &self.name);
        Ok(Outcome::Pipeline { pipeline, changed })
    }
}
