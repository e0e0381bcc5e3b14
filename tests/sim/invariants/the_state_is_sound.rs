//! The state machine's own invariants, after every command.

use sluice_coordinator::machine::invariants::{check, numbers_only_grow};

use super::Invariant;
use crate::{around::Around, fact::Fact};

#[derive(Debug, Default)]
pub(crate) struct Check;

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "the_state_is_sound"
    }

    fn see(&mut self, fact: &Fact, _: &Around) -> Result<(), String> {
        let Fact::Applied { before, after, .. } = fact else { return Ok(()) };
        check(after).and_then(|()| numbers_only_grow(before, after)).map_err(|broken| broken.to_string())
    }
}
