//! A checkpoint that comes under another epoch than its shard has, or from another than its owner, leaves shard and checkpoint as they were.

use sluice_coordinator::{
    machine::Kind,
    model::{ShardId, State},
};

use super::{Invariant, ensure};
use crate::{around::Around, fact::Fact};

#[derive(Debug, Default)]
pub(crate) struct Check;

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "an_older_epoch_changes_nothing"
    }

    fn see(&mut self, fact: &Fact, _: &Around) -> Result<(), String> {
        let Fact::Applied { before, after, command } = fact else { return Ok(()) };
        let Kind::RecordCheckpoints(said) = &command.kind else { return Ok(()) };
        let of = |state: &State, id: &ShardId| (state.shards.get(id).cloned(), state.checkpoints.get(id).cloned());
        for (id, checkpoint) in &said.checkpoints {
            // Of several words of one shard an earlier one may be the owner's last.
            let is_owners = |epoch| {
                let shard = before.shards.get(id);
                shard.is_some_and(|shard| shard.epoch == epoch && shard.owner.as_ref() == Some(&said.node))
            };
            if said.checkpoints.iter().any(|(other, word)| other == id && is_owners(word.epoch)) {
                continue;
            }
            ensure(of(before, id) == of(after, id), || {
                format!("{:?} has changed shard {id} with a checkpoint of epoch {}", said.node, checkpoint.epoch)
            })?;
        }
        Ok(())
    }
}
