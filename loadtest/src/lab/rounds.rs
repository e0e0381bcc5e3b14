//! Rounds of a fault test, each with a seed that is printed, so that a failure can be played again.

use std::{
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;

/// One round's source of chance.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    state: u64,
}

/// Plays `story` as often as `SLUICE_TEST_ROUNDS` says (2), from the seed `SLUICE_TEST_SEED` on (the clock).
///
/// # Errors
/// A round failed; the error says how to play it again.
pub fn rounds(mut story: impl FnMut(&mut Round) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().context("a number")).transpose();
    let count = number("SLUICE_TEST_ROUNDS")?.unwrap_or(2);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_micros()));
    let first = number("SLUICE_TEST_SEED")?.unwrap_or(clock);
    for seed in first..first + count {
        eprintln!("=== SLUICE_TEST_SEED={seed} SLUICE_TEST_ROUNDS=1");
        story(&mut Round::new(seed))
            .with_context(|| format!("play it again with SLUICE_TEST_SEED={seed} SLUICE_TEST_ROUNDS=1"))?;
    }
    Ok(())
}

impl Round {
    /// Chance that begins with this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number below `bound`, from the round's seed.
    pub fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014): enough to choose moments.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    /// Lets a fault last.
    pub fn last(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
