//! Wall-clock time as data. Nothing here reads a clock: proposers do, and put the time into the command.

use std::fmt;

/// Milliseconds since the Unix epoch, by the clock of whoever proposed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// Milliseconds from `earlier` to here; 0 when the clocks disagree about the order.
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
