//! The owners keep shards that were to be moved. One that has released its shard already is too late to keep it.

use super::{Outcome, Refusal};
use crate::model::{ShardId, State, UnixMs};

/// Calls planned moves off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelMoves {
    /// Which shards. Those that are gone or are not being moved are passed over.
    pub shards: Vec<ShardId>,
}

impl CancelMoves {
    pub(super) fn apply(self, state: &mut State, _at: UnixMs) -> Result<Outcome, Refusal> {
        let mut changed = 0;
        for id in &self.shards {
            let cancelled = state.shards.get_mut(id).and_then(|shard| shard.handover.take());
            changed += usize::from(cancelled.is_some());
        }
        Ok(Outcome::Moves { changed })
    }
}
