//! A reading is in Kafka once for each group that was to get it, and once more at most for each connection that ended while the broker had
//! no acknowledgement of it.

use std::collections::BTreeMap;

use super::{Invariant, ensure};
use crate::{around::Around, fact::Fact, kafka::Id, world::World};

#[derive(Debug, Default)]
pub(crate) struct Check {
    cuts: BTreeMap<Id, u32>,
}

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "repeats_come_from_cuts"
    }

    fn see(&mut self, fact: &Fact, _: &Around) -> Result<(), String> {
        if let Fact::Cut { unacked } = fact {
            unacked.iter().for_each(|id| *self.cuts.entry(*id).or_default() += 1);
        }
        Ok(())
    }

    fn end(&self, world: &World) -> Result<(), String> {
        for (id, groups) in (0..).zip(&world.acknowledged) {
            let (copies, cuts) = (world.around.kafka.copies(id), self.cuts.get(&id).copied().unwrap_or(0));
            ensure(copies <= groups + cuts, || format!("reading {id} is there {copies} times, after {cuts} cuts"))?;
        }
        Ok(())
    }
}
