//! Stops reading. The sessions stay, so the MQTT broker queues for them.

use super::{Outcome, Refusal};
use crate::model::{PipelineName, PipelineState, State, UnixMs};

/// Stops reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PausePipeline {
    /// Which pipeline.
    pub name: PipelineName,
}

impl PausePipeline {
    pub(super) fn apply(self, state: &mut State, _at: UnixMs) -> Result<Outcome, Refusal> {
        set(state, &self.name, PipelineState::Paused)
    }
}

/// Brings a pipeline that is not ending into `wanted`.
pub(super) fn set(state: &mut State, name: &PipelineName, wanted: PipelineState) -> Result<Outcome, Refusal> {
    let pipeline = state.pipelines.get_mut(name).ok_or_else(|| Refusal::no_pipeline(name))?;
    if pipeline.state.is_ending() {
        return Err(Refusal::pipeline_is_ending(name));
    }
    let changed = pipeline.state != wanted;
    pipeline.state = wanted;
    Ok(Outcome::Pipeline { pipeline: Box::new(pipeline.clone()), changed })
}
