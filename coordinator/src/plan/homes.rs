//! Goal A: every shard that needs an owner gets one, at once.
//!
//! Goal C before B where they meet: a shard goes back to the node it was on, or to the one it was on its way to, while that is
//! not above its fair share.

use super::{
    board::{Board, Node, Queue},
    decisions::Decisions,
};

/// Gives every homeless shard to a node, if there is one that takes any.
pub(super) fn give<'a>(board: &mut Board<'a>, decisions: &mut Decisions<'a>) {
    let mut homeless = std::mem::take(&mut board.homeless);
    // The largest first, so that the small ones can even out what is left. All are 0 where only the count matters.
    homeless.sort_by_key(|homeless| std::cmp::Reverse(homeless.shard.rate));
    let fair = fair_share(board, homeless.len());
    homeless.retain(|homeless| {
        let has_room = |at: &usize| board.nodes[*at].takes() && board.nodes[*at].count < fair;
        match homeless.known.into_iter().flatten().find(has_room) {
            Some(at) => board.assign(homeless.shard, at, decisions),
            None => return true,
        }
        false
    });
    let mut queue = Queue::new(board);
    for homeless in homeless {
        if !queue.next(board, |board, at| board.assign(homeless.shard, at, decisions)) {
            break;
        }
    }
}

/// The count that nobody needs to exceed once `more` shards are placed.
fn fair_share(board: &Board<'_>, more: usize) -> usize {
    let takers = || board.nodes.iter().filter(|node| Node::takes(node));
    let placed: usize = takers().map(|node| node.count).sum();
    (placed + more).div_ceil(takers().count().max(1))
}
