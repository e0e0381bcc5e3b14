//! Goals B to E for shards that are well where they are: planned moves, away from who must not keep them and from who has more
//! than others.

use super::{
    board::{Board, Held, Node, Queue},
    decisions::Decisions,
};
use crate::model::MemberState;

/// Moves everything away from nodes that are about to end: all at once, since they wait for nothing else.
pub(super) fn empty_the_stopping<'a>(board: &mut Board<'a>, decisions: &mut Decisions<'a>) {
    let mut queue = Queue::new(board);
    for from in in_state(board, MemberState::Stopping) {
        while let Some(last) = board.nodes[from].held.len().checked_sub(1) {
            if !queue.next(board, |board, to| board.start_move(from, last, to, decisions)) {
                return;
            }
        }
    }
}

/// Moves shards away from nodes that an operator drains, a few at a time.
pub(super) fn empty_the_draining<'a>(board: &mut Board<'a>, decisions: &mut Decisions<'a>, budget: &mut usize) {
    for from in in_state(board, MemberState::Draining) {
        while *budget > 0 {
            let Some(place) = first_to_go(&board.nodes[from]) else { break };
            let Some(to) = fewest(board) else { return };
            board.start_move(from, place, to, decisions);
            *budget -= 1;
        }
    }
}

/// Moves shards from whoever has most to whoever has fewest until that is a difference of one. No way has fewer moves: each
/// takes from a node above the mean and gives to one below it.
pub(super) fn even_counts<'a>(board: &mut Board<'a>, decisions: &mut Decisions<'a>, budget: &mut usize) {
    while *budget > 0 {
        let (Some(from), Some(to)) = (most(board), fewest(board)) else { return };
        if board.nodes[from].count <= board.nodes[to].count + 1 {
            return;
        }
        let Some(place) = best_to_go(&board.nodes[from], &board.nodes[to]) else { return };
        board.start_move(from, place, to, decisions);
        *budget -= 1;
    }
}

fn in_state(board: &Board<'_>, state: MemberState) -> Vec<usize> {
    (0..board.nodes.len()).filter(|at| board.nodes[*at].state == state).collect()
}

/// Of those that shards may be moved to: the one with fewest, then least flow, then the lower name.
fn fewest(board: &Board<'_>) -> Option<usize> {
    let nodes = board.nodes.iter().enumerate().filter(|(_, node)| node.is_filled());
    nodes.min_by_key(|(at, node)| (node.count, node.rate, *at)).map(|(at, _)| at)
}

/// Of those that have one to give: the one with most, then most flow, then the lower name.
fn most(board: &Board<'_>) -> Option<usize> {
    let nodes = board.nodes.iter().enumerate().filter(|(_, node)| node.takes() && !node.held.is_empty());
    nodes.max_by_key(|(at, node)| (node.count, node.rate, std::cmp::Reverse(*at))).map(|(at, _)| at)
}

/// The shard that has stayed longest, so that none is moved twice while others wait; last those that end by themselves.
fn first_to_go(node: &Node<'_>) -> Option<usize> {
    let held = node.held.iter().enumerate();
    held.min_by_key(|(_, held)| order(held)).map(|(place, _)| place)
}

/// As [`first_to_go`], but first of all the one that comes nearest to making the two nodes' flows equal.
fn best_to_go(from: &Node<'_>, to: &Node<'_>) -> Option<usize> {
    let half = from.rate.saturating_sub(to.rate) / 2;
    let held = from.held.iter().enumerate();
    held.min_by_key(|(_, held)| (held.is_ending, held.rate.abs_diff(half), order(held))).map(|(place, _)| place)
}

fn order<'a>(held: &Held<'a>) -> impl Ord + use<'a> {
    (held.is_ending, held.since, held.shard)
}
