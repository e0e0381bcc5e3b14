//! Goal B's second half: where counts are even, make the flows so, by moving one shard or exchanging two.
//!
//! A move costs a gap, and rates change by themselves. So nothing is done for a small difference, nor for one that moving whole
//! shards cannot mend.

use std::cmp::Reverse;

use super::{
    board::{Board, Held, Node},
    decisions::Decisions,
};

/// Below this difference, in readings a second, no node is worse off than another in a way that anybody could notice.
const GAP_MIN: u64 = 100;
/// One part in so many of the mean: what the difference must exceed. Well above what measured rates sway by.
const GAP_SHARE: u64 = 4;
/// One part in so many of a mean shard's flow: what each step must shift, so that shards alike but for noise stay.
const STEP_SHARE: u64 = 2;

/// Evens the nodes with most and with least flow, again and again, while it is worth it.
pub(super) fn even_rates<'a>(board: &mut Board<'a>, decisions: &mut Decisions<'a>, budget: &mut usize) {
    while *budget > 0 {
        let Some(wish) = Wish::of(board, *budget) else { return };
        let Some(found) = best(&board.nodes[wish.high], &board.nodes[wish.low], &wish) else { return };
        board.start_move(wish.high, found.give, wish.low, decisions);
        *budget -= 1;
        if let Some(take) = found.take {
            board.start_move(wish.low, take, wish.high, decisions);
            *budget -= 1;
        }
    }
}

/// The nodes with most and with least flow, when evening them is worth it.
struct Wish {
    high: usize,
    low: usize,
    gap: u64,
    step_min: u64,
    may_exchange: bool,
}

impl Wish {
    fn of(board: &Board<'_>, budget: usize) -> Option<Self> {
        let nodes = || board.nodes.iter().enumerate().filter(|(_, node)| node.is_filled());
        let (high, most) = nodes().max_by_key(|(at, node)| (node.rate, Reverse(*at)))?;
        let (low, least) = nodes().min_by_key(|(at, node)| (node.rate, *at))?;
        let total: u64 = nodes().map(|(_, node)| node.rate).sum();
        let mean_over = |count: usize| total / u64::try_from(count).unwrap_or(u64::MAX).max(1);
        let gap = most.rate - least.rate;
        let step_min = (mean_over(nodes().map(|(_, node)| node.count).sum()) / STEP_SHARE).max(1);
        let is_worth_it = gap >= GAP_MIN && gap > mean_over(nodes().count()) / GAP_SHARE;
        is_worth_it.then_some(Self { high, low, gap, step_min, may_exchange: budget > 1 })
    }

    /// How far a shift is from what would make the two flows equal; None if it is not worth it.
    fn off(&self, shift: u64) -> Option<u64> {
        // A shift of nearly the whole gap would only turn it round.
        let is_worth_it = shift >= self.step_min && shift <= self.gap / 4 * 3;
        is_worth_it.then(|| shift.abs_diff(self.gap / 2))
    }
}

/// Places in `held` of the shard to give and of the one to get for it.
struct Exchange {
    give: usize,
    take: Option<usize>,
}

/// What comes nearest to making the two flows equal.
fn best(high: &Node<'_>, low: &Node<'_>, wish: &Wish) -> Option<Exchange> {
    let lasting = |held: &(usize, &Held<'_>)| !held.1.is_ending;
    let mut takes: Vec<_> = low.held.iter().enumerate().filter(lasting).collect();
    takes.sort_by_key(|(_, held)| (held.rate, held.shard));
    let mut found = None;
    for (give, held) in high.held.iter().enumerate().filter(lasting) {
        // One for one, as near as can be below and above; and one for nothing where that keeps the counts even.
        let wanted = held.rate.saturating_sub(wish.gap / 2);
        let at = takes.partition_point(|(_, held)| held.rate < wanted);
        let pairs = [at.checked_sub(1), Some(at)].into_iter().flatten().filter_map(|at| takes.get(at));
        let pairs = pairs.filter(|_| wish.may_exchange);
        let pairs = pairs.map(|(take, taken)| (Some(*take), held.rate.saturating_sub(taken.rate)));
        let alone = (high.count > low.count).then_some((None, held.rate));
        for (take, shift) in alone.into_iter().chain(pairs) {
            let Some(off) = wish.off(shift) else { continue };
            // One move rather than two; then the shard that comes first.
            let key = (off, take.is_some(), held.shard);
            if found.as_ref().is_none_or(|(best, _)| key < *best) {
                found = Some((key, Exchange { give, take }));
            }
        }
    }
    found.map(|(_, exchange)| exchange)
}
