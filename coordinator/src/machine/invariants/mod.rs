//! What must hold of every state, whatever commands led to it. Each a named function, one a file.
//!
//! Checked after every command in tests, and before a restored snapshot is believed.

mod checkpoints_belong_to_shards;
mod earlier_specs_are_needed;
mod handovers_have_two_ends;
mod numbers_only_grow;
mod owners_are_members;
mod pipelines_have_their_shards;
mod raft_ids_are_unique;
mod removed_disks_stay_away;
mod sessions_have_specs;

pub use checkpoints_belong_to_shards::checkpoints_belong_to_shards;
pub use earlier_specs_are_needed::earlier_specs_are_needed;
pub use handovers_have_two_ends::handovers_have_two_ends;
pub use numbers_only_grow::numbers_only_grow;
pub use owners_are_members::owners_are_members;
pub use pipelines_have_their_shards::pipelines_have_their_shards;
pub use raft_ids_are_unique::raft_ids_are_unique;
pub use removed_disks_stay_away::removed_disks_stay_away;
pub use sessions_have_specs::sessions_have_specs;

use crate::model::State;

/// What was found broken, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub(crate) String);

/// Checks all that must hold of a state by itself.
pub fn check(state: &State) -> Result<(), Broken> {
    pipelines_have_their_shards(state)?;
    owners_are_members(state)?;
    checkpoints_belong_to_shards(state)?;
    sessions_have_specs(state)?;
    earlier_specs_are_needed(state)?;
    raft_ids_are_unique(state)?;
    removed_disks_stay_away(state)?;
    handovers_have_two_ends(state)
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(otherwise())) }
}
