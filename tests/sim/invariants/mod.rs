//! What must hold in every run, one a file: seen at the seams, step by step, or at the end, when everything is mended and at rest.

mod acks_leave_in_receive_order;
mod acks_never_pass_the_watermark;
mod an_epoch_has_one_owner;
mod an_older_epoch_changes_nothing;
mod cuts_repeat_no_more_than_the_window;
mod every_shard_has_one_owner;
mod loads_are_even;
mod no_ping_pong;
mod nobody_connects_without_a_lease;
mod nothing_acknowledged_is_lost;
mod repeats_come_from_cuts;
mod the_ledger_adds_up;
mod the_state_is_sound;

use std::fmt::Debug;

pub(crate) use loads_are_even::loads_are_even;

use crate::{around::Around, fact::Fact, world::World};

/// Something that must hold.
pub(crate) trait Invariant: Debug {
    /// As its file is called.
    fn name(&self) -> &'static str;

    /// Takes in what has happened.
    fn see(&mut self, _fact: &Fact, _around: &Around) -> Result<(), String> {
        Ok(())
    }

    /// Looks at what is at rest.
    fn end(&self, _world: &World) -> Result<(), String> {
        Ok(())
    }
}

pub(crate) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::<acks_leave_in_receive_order::Check>::default(),
        Box::<acks_never_pass_the_watermark::Check>::default(),
        Box::<an_epoch_has_one_owner::Check>::default(),
        Box::<an_older_epoch_changes_nothing::Check>::default(),
        Box::<cuts_repeat_no_more_than_the_window::Check>::default(),
        Box::<every_shard_has_one_owner::Check>::default(),
        Box::<loads_are_even::Check>::default(),
        Box::<no_ping_pong::Check>::default(),
        Box::<nobody_connects_without_a_lease::Check>::default(),
        Box::<nothing_acknowledged_is_lost::Check>::default(),
        Box::<repeats_come_from_cuts::Check>::default(),
        Box::<the_ledger_adds_up::Check>::default(),
        Box::<the_state_is_sound::Check>::default(),
    ]
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// A fact for the trace: a command without the state that it met.
pub(crate) fn words(fact: &Fact) -> String {
    match fact {
        Fact::Applied { command, .. } => format!("applied {:?}", command.kind),
        fact => format!("{fact:?}"),
    }
}
