//! Whoever owns a shard has registered, in a generation it has had, and the shard has an epoch.

use super::{Broken, ensure};
use crate::model::{Epoch, Generation, State};

/// See the file's head.
pub fn owners_are_members(state: &State) -> Result<(), Broken> {
    state.shards.iter().try_for_each(|(id, shard)| {
        let Some(owner) = &shard.owner else { return Ok(()) };
        let member = state.members.get(&owner.node);
        let member =
            member.ok_or_else(|| Broken(format!("shard {id} is owned by {}, which is no member", owner.node)))?;
        let has_been = (Generation(1)..=member.generation).contains(&owner.generation);
        ensure(has_been, || format!("shard {id} is owned by {} in generation {}", owner.node, owner.generation))?;
        ensure(shard.epoch > Epoch(0), || format!("shard {id} has an owner and no epoch"))
    })
}
