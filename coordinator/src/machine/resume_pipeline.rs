//! Reads again.

use super::{Outcome, Refusal, pause_pipeline};
use crate::model::{PipelineName, PipelineState, State, UnixMs};

/// Reads again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumePipeline {
    /// Which pipeline.
    pub name: PipelineName,
}

impl ResumePipeline {
    pub(super) fn apply(self, state: &mut State, _at: UnixMs) -> Result<Outcome, Refusal> {
        pause_pipeline::set(state, &self.name, PipelineState::Running)
    }
}
