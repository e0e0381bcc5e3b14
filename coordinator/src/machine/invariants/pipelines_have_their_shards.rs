//! A pipeline has all its shards; one that is ending has some of them; no shard is without its pipeline.

use super::{Broken, ensure};
use crate::model::State;

/// See the file's head.
pub fn pipelines_have_their_shards(state: &State) -> Result<(), Broken> {
    for (name, pipeline) in &state.pipelines {
        ensure(pipeline.spec.name == *name, || format!("pipeline {name} calls itself {}", pipeline.spec.name))?;
        let has = state.shards_of(name).count();
        let wants = pipeline.spec.shards.get() as usize;
        let holds = if pipeline.state.is_ending() { (1..=wants).contains(&has) } else { has == wants };
        ensure(holds, || format!("pipeline {name} has {has} of {wants} shards"))?;
    }
    state.shards.keys().try_for_each(|id| {
        let pipeline = state.pipelines.get(&id.pipeline);
        let belongs = pipeline.is_some_and(|pipeline| id.index < pipeline.spec.shards.get());
        ensure(belongs, || format!("shard {id} belongs to no pipeline"))
    })
}
