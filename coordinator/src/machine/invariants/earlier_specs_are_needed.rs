//! A pipeline keeps no earlier spec that no session can belong to, and none as new as its own.

use super::{Broken, ensure};
use crate::{machine::earlier::may_belong, model::State};

/// See the file's head.
pub fn earlier_specs_are_needed(state: &State) -> Result<(), Broken> {
    state.pipelines.iter().try_for_each(|(name, pipeline)| {
        pipeline.earlier.keys().try_for_each(|revision| {
            ensure(*revision < pipeline.revision, || format!("pipeline {name} has a future spec {revision}"))?;
            let needed = state.shards_of(name).any(|(_, shard)| may_belong(shard, *revision));
            ensure(needed, || format!("pipeline {name} keeps spec {revision} for nobody"))
        })
    })
}
