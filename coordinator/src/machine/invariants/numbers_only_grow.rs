//! From one state to the next, generations, revisions and epochs never go back, and an epoch moves with its owner. What was
//! removed stays so, and a shard that retires goes on doing so.

use super::{Broken, ensure};
use crate::model::{Shard, State};

/// See the file's head. `before` and `after` are one command apart.
pub fn numbers_only_grow(before: &State, after: &State) -> Result<(), Broken> {
    ensure(after.epoch_floor >= before.epoch_floor, || "the epoch floor sank".to_owned())?;
    ensure(after.removed.is_superset(&before.removed), || "a removed disk was forgotten".to_owned())?;
    for (name, old) in &before.members {
        let grew = after.members.get(name).is_some_and(|new| new.generation >= old.generation);
        ensure(grew, || format!("member {name} went back in generation or was lost"))?;
    }
    for (name, old) in &before.pipelines {
        let grew = after.pipelines.get(name).is_none_or(|new| new.revision >= old.revision);
        ensure(grew, || format!("pipeline {name} went back in revision"))?;
    }
    for (id, new) in &after.shards {
        match before.shards.get(id) {
            Some(old) => ensure(moved_rightly(old, new), || format!("shard {id}: epoch and owner disagree")),
            None => ensure(is_new(new, before), || format!("shard {id} is older than it is")),
        }?;
    }
    for (id, old) in &before.shards {
        let remembered = after.shards.contains_key(id) || after.epoch_floor >= old.epoch;
        ensure(remembered, || format!("shard {id} went and its epoch could come again"))?;
    }
    Ok(())
}

fn is_new(shard: &Shard, before: &State) -> bool {
    shard.epoch == before.epoch_floor && shard.owner.is_none()
}

fn moved_rightly(old: &Shard, new: &Shard) -> bool {
    if old.is_retiring && !new.is_retiring {
        return false;
    }
    match &new.owner {
        // Released, or never owned: the epoch stays until somebody owns it again.
        None => new.epoch == old.epoch,
        owner if *owner == old.owner => new.epoch == old.epoch,
        Some(_) => new.epoch == old.epoch.next(),
    }
}
