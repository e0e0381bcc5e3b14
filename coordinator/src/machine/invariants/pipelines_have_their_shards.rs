//! A pipeline has all its shards; one that is ending has some of them; no shard is without its pipeline. Past the pipeline's
//! count there are only shards that retire, and only there.

use super::{Broken, ensure};
use crate::model::State;

/// See the file's head.
pub fn pipelines_have_their_shards(state: &State) -> Result<(), Broken> {
    for (name, pipeline) in &state.pipelines {
        ensure(pipeline.spec.name == *name, || format!("pipeline {name} calls itself {}", pipeline.spec.name))?;
        let has = state.shards_of(name).filter(|(_, shard)| !shard.is_retiring).count();
        let wants = pipeline.spec.shards.get() as usize;
        let holds = if pipeline.state.is_ending() { has <= wants } else { has == wants };
        ensure(holds, || format!("pipeline {name} has {has} of {wants} shards"))?;
        ensure(state.shards_of(name).next().is_some(), || format!("pipeline {name} has no shard left"))?;
    }
    state.shards.iter().try_for_each(|(id, shard)| {
        let pipeline = state.pipelines.get(&id.pipeline);
        let pipeline = pipeline.ok_or_else(|| Broken(format!("shard {id} belongs to no pipeline")))?;
        let is_beyond = id.index >= pipeline.spec.shards.get();
        ensure(is_beyond == shard.is_retiring, || {
            let count = pipeline.spec.shards;
            format!("shard {id} of {count} is{} retiring", if shard.is_retiring { "" } else { " not" })
        })
    })
}
