//! No checkpoint without its shard, none from an epoch that the shard has not had, and each tells of the session the shard has.

use super::{Broken, ensure};
use crate::model::State;

/// See the file's head.
pub fn checkpoints_belong_to_shards(state: &State) -> Result<(), Broken> {
    state.checkpoints.iter().try_for_each(|(id, checkpoint)| {
        let shard = state.shards.get(id).ok_or_else(|| Broken(format!("checkpoint of {id} has no shard")))?;
        ensure(checkpoint.epoch <= shard.epoch, || {
            format!("checkpoint of {id} is at epoch {}, its shard at {}", checkpoint.epoch, shard.epoch)
        })?;
        ensure(checkpoint.session == shard.session, || format!("checkpoint of {id} tells of another session"))
    })
}
