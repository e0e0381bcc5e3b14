//! PURE: which fault comes in which round, and every choice within a round, by seed.

use super::kind::Kind;
use crate::lab::rounds::Round;

/// The order of the kinds: a shuffled deck after the other, so that each comes equally often.
#[derive(Debug)]
pub(crate) struct Schedule {
    seed: u64,
    chance: Round,
    kinds: Vec<Kind>,
    deck: Vec<Kind>,
}

impl Schedule {
    pub(crate) fn new(seed: u64, kinds: Vec<Kind>) -> Self {
        Self { seed, chance: Round::new(seed), kinds, deck: Vec::new() }
    }

    /// The kind of the next round.
    pub(crate) fn next_kind(&mut self) -> Kind {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.kinds);
            // Fisher and Yates.
            for last in (1..self.deck.len()).rev() {
                let other = pick(&mut self.chance, last + 1);
                self.deck.swap(last, other);
            }
        }
        // There is at least one kind: an empty list means all.
        self.deck.pop().unwrap_or(Kind::KillLeader)
    }

    /// The seed of a round: the same round alone is played by giving it to a run of one round.
    pub(crate) fn seed_of(&self, round: usize) -> u64 {
        self.seed.wrapping_add(round as u64)
    }
}

/// A number below `bound`, which must not be 0.
pub(crate) fn pick(chance: &mut Round, bound: usize) -> usize {
    usize::try_from(chance.below(bound as u64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_rounds_and_every_kind_comes_as_often() {
        let kinds = vec![Kind::KillFollower, Kind::KillLeader, Kind::Pause, Kind::Drain];
        let played = |seed| {
            let mut schedule = Schedule::new(seed, kinds.clone());
            (0..12).map(|_| schedule.next_kind()).collect::<Vec<_>>()
        };
        assert_eq!(played(7), played(7));
        assert_ne!(played(7), played(8));
        for kind in &kinds {
            assert_eq!(played(7).iter().filter(|played| *played == kind).count(), 3);
        }
    }

    #[test]
    fn a_round_alone_has_the_seed_it_had_among_others() {
        let many = Schedule::new(100, vec![Kind::Pause]);
        assert_eq!(many.seed_of(5), Schedule::new(105, vec![Kind::Pause]).seed_of(0));
    }
}
