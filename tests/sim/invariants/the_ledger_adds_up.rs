//! In every checkpoint that is said, and at rest in every task, what was received is all accounted for.

use sluice_coordinator::machine::Kind;

use super::{Invariant, ensure};
use crate::{around::Around, fact::Fact, node::Node, world::World};

#[derive(Debug, Default)]
pub(crate) struct Check;

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "the_ledger_adds_up"
    }

    fn see(&mut self, fact: &Fact, _: &Around) -> Result<(), String> {
        let Fact::Applied { command, .. } = fact else { return Ok(()) };
        let Kind::RecordCheckpoints(said) = &command.kind else { return Ok(()) };
        for (id, checkpoint) in &said.checkpoints {
            let unaccounted = checkpoint.ledger.unaccounted();
            ensure(unaccounted == 0, || format!("{unaccounted} readings of shard {id} are nowhere: {checkpoint:?}"))?;
        }
        Ok(())
    }

    fn end(&self, world: &World) -> Result<(), String> {
        for task in world.nodes.iter().flat_map(Node::tasks) {
            let (id, meters) = (&task.peer.shard, &task.meters);
            let unaccounted = meters.unaccounted();
            ensure(unaccounted == 0, || format!("{unaccounted} readings of shard {id} are nowhere: {meters:?}"))?;
            let told = world.around.raft.state.checkpoints.get(id);
            let told = told.ok_or_else(|| format!("shard {id} has no checkpoint"))?;
            ensure(told.ledger.in_flight == 0 && told.ledger.delivered == meters.delivered.get(), || {
                format!("the last checkpoint of shard {id} tells less than there is: {told:?}, {meters:?}")
            })?;
        }
        Ok(())
    }
}
