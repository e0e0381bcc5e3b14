//! When a task leaves a connection, no more readings of it are unacknowledged than the window has, and one: that many at most are repeated,
//! whatever the broker sent.

use super::{Invariant, ensure};
use crate::{around::Around, fact::Fact};

#[derive(Debug, Default)]
pub(crate) struct Check;

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "cuts_repeat_no_more_than_the_window"
    }

    fn see(&mut self, fact: &Fact, around: &Around) -> Result<(), String> {
        let Fact::Left { unacked } = fact else { return Ok(()) };
        let window = usize::from(around.setup.receive_maximum.get());
        ensure(*unacked <= window + 1, || format!("{unacked} readings were unacknowledged, the window is {window}"))
    }
}
