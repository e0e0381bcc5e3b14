//! At rest no active member has two shards more than another.

use std::collections::BTreeMap;

use sluice_coordinator::model::MemberState;

use super::{Invariant, ensure};
use crate::world::World;

#[derive(Debug, Default)]
pub(crate) struct Check;

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "loads_are_even"
    }

    fn end(&self, world: &World) -> Result<(), String> {
        loads_are_even(world)
    }
}

/// See the file's head.
pub(crate) fn loads_are_even(world: &World) -> Result<(), String> {
    let state = &world.around.raft.state;
    let active = state.members.iter().filter(|(_, member)| member.state == MemberState::Active);
    let mut loads: BTreeMap<_, usize> = active.map(|(node, _)| (node.clone(), 0)).collect();
    ensure(loads.len() == world.nodes.len(), || format!("only {loads:?} take shards"))?;
    for owner in state.shards.values().filter_map(|shard| shard.owner.as_ref()) {
        *loads.entry(owner.node.clone()).or_default() += 1;
    }
    let (least, most) = (loads.values().min().copied(), loads.values().max().copied());
    ensure(most.unwrap_or(0) - least.unwrap_or(0) <= 1, || format!("loads are {loads:?}"))
}
