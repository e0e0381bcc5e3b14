//! Gives the cluster its id: the first command of its log.

use super::{Outcome, Refusal};
use crate::model::{ClusterId, State, UnixMs};

/// Gives the cluster its id. Refused when it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitCluster {
    /// Random, from the disk that was bootstrapped.
    pub cluster_id: ClusterId,
}

impl InitCluster {
    pub(super) fn apply(self, state: &mut State, _at: UnixMs) -> Result<Outcome, Refusal> {
        if let Some(id) = &state.cluster_id {
            return Err(Refusal::not_now(format!("the cluster has an id already: {id}")));
        }
        state.cluster_id = Some(self.cluster_id);
        Ok(Outcome::Initialized)
    }
}
