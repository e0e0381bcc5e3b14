//! Everything that is left to chance in a run, from one seed.

use sluice_tests::rounds::Round;

/// A run's source of chance.
#[derive(Debug)]
pub(crate) struct Chance(Round);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Round::new(seed))
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// A number from `least` to `most`.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// True once in `times`.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A place in a list that is not empty.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// Any number, drawn evenly, as the product's back-off takes it.
    pub(crate) fn any(&mut self) -> u32 {
        u32::try_from(self.below(1 << 32)).unwrap_or(0)
    }
}
