//! Every session can be ended: the spec it was opened with is still known.

use super::{Broken, ensure};
use crate::model::State;

/// See the file's head.
pub fn sessions_have_specs(state: &State) -> Result<(), Broken> {
    state.shards.iter().try_for_each(|(id, shard)| {
        let Some(session) = &shard.session else { return Ok(()) };
        let known =
            state.pipelines.get(&id.pipeline).is_some_and(|pipeline| pipeline.spec_at(session.revision).is_some());
        ensure(known, || format!("shard {id} has a session of revision {}, which is forgotten", session.revision))
    })
}
