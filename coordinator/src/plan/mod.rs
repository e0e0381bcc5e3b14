//! The planner: state in, commands out that lead to the desired assignments. Pure; the goals are in the crate's README.
//!
//! Deterministic: the same state and inputs give the same commands. It converges: applying what it says leaves it nothing to
//! say until something changes or time passes.

mod board;
mod decisions;
mod homes;
mod inputs;
mod moves;
mod rates;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
pub mod voters;

pub use decisions::SHARDS_PER_COMMAND_MAX;
pub use inputs::{Balance, Health, Inputs, Late, Settings};

use crate::{machine::Command, model::State};

/// Computes what has to be proposed, now, for every shard to have the owner it should have.
pub fn plan(state: &State, inputs: &Inputs<'_>) -> Vec<Command> {
    let (mut board, mut decisions) = board::Board::new(state, inputs);
    homes::give(&mut board, &mut decisions);
    moves::empty_the_stopping(&mut board, &mut decisions);
    let mut budget = inputs.settings.moves_max.saturating_sub(board.moves_under_way);
    moves::empty_the_draining(&mut board, &mut decisions, &mut budget);
    moves::even_counts(&mut board, &mut decisions, &mut budget);
    if inputs.settings.balance == Balance::Rate {
        rates::even_rates(&mut board, &mut decisions, &mut budget);
    }
    decisions.into_commands(inputs.now)
}
