//! Under one epoch a shard has never had two owners, nor one in two generations.

use std::collections::BTreeMap;

use sluice_coordinator::model::{Epoch, Owner, ShardId};

use super::Invariant;
use crate::{around::Around, fact::Fact};

#[derive(Debug, Default)]
pub(crate) struct Check {
    owners: BTreeMap<(ShardId, Epoch), Owner>,
}

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "an_epoch_has_one_owner"
    }

    fn see(&mut self, fact: &Fact, _: &Around) -> Result<(), String> {
        let Fact::Applied { after, .. } = fact else { return Ok(()) };
        for (id, shard) in &after.shards {
            let Some(owner) = &shard.owner else { continue };
            let first = self.owners.entry((id.clone(), shard.epoch)).or_insert_with(|| owner.clone());
            if first != owner {
                return Err(format!("shard {id} at epoch {} has owners {first:?} and {owner:?}", shard.epoch));
            }
        }
        Ok(())
    }
}
