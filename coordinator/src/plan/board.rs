//! The nodes with what each will have once all moves under way are done, and the shards that need an owner now.
//!
//! Shards of paused pipelines are not on it: their owners release them and they get none.

use std::collections::{BTreeMap, BTreeSet};

use super::{Inputs, decisions::Decisions};
use crate::model::{
    Generation, Member, MemberState, NodeName, Owner, Pipeline, PipelineState, Shard, ShardId, State, UnixMs,
};

/// See the file's head.
#[derive(Debug)]
pub(super) struct Board<'a> {
    /// By name; members that are gone are not here.
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) homeless: Vec<Homeless<'a>>,
    /// Planned moves that go on.
    pub(super) moves_under_way: usize,
    now: UnixMs,
}

/// A member.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) name: &'a NodeName,
    pub(super) generation: Generation,
    pub(super) state: MemberState,
    pub(super) is_alive: bool,
    pub(super) is_stable: bool,
    /// Shards it has or will have.
    pub(super) count: usize,
    /// Their readings a second.
    pub(super) rate: u64,
    /// The shards that may be moved away from it: those not on their way already.
    pub(super) held: Vec<Held<'a>>,
}

/// A shard on the node that it is to stay on, so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) shard: &'a ShardId,
    pub(super) rate: u64,
    /// It will be gone soon by itself.
    pub(super) is_ending: bool,
    pub(super) since: UnixMs,
}

/// A shard that needs an owner now.
#[derive(Debug)]
pub(super) struct Homeless<'a> {
    pub(super) shard: Held<'a>,
    /// Where it was last, and where it was on its way to, as places in [`Board::nodes`].
    pub(super) known: [Option<usize>; 2],
}

impl Node<'_> {
    /// Whether a shard that needs an owner may be put on it.
    pub(super) fn takes(&self) -> bool {
        self.is_alive && self.state == MemberState::Active
    }

    /// Whether a shard that is well where it is may be moved to it.
    pub(super) fn is_filled(&self) -> bool {
        self.takes() && self.is_stable
    }
}

impl<'a> Board<'a> {
    /// Sorts all shards onto nodes, and decides about the moves under way.
    pub(super) fn new(state: &'a State, inputs: &Inputs<'a>) -> (Self, Decisions<'a>) {
        let present = state.members.iter().filter(|(_, member)| member.state != MemberState::Gone);
        let nodes: Vec<_> = present.map(|(name, member)| node(name, member, inputs)).collect();
        let places: BTreeMap<_, _> = nodes.iter().enumerate().map(|(at, node)| (node.name, at)).collect();
        let mut board = Self { nodes, homeless: Vec::new(), moves_under_way: 0, now: inputs.now };
        let mut decisions = Decisions::default();
        for (id, shard) in &state.shards {
            if let Some(pipeline) = state.pipelines.get(&id.pipeline) {
                board.sort_in(&places, (id, shard), pipeline, inputs, &mut decisions);
            }
        }
        (board, decisions)
    }

    fn sort_in(
        &mut self,
        places: &BTreeMap<&NodeName, usize>,
        (id, shard): (&'a ShardId, &'a Shard),
        pipeline: &Pipeline,
        inputs: &Inputs<'a>,
        decisions: &mut Decisions<'a>,
    ) {
        let is_paused = pipeline.state == PipelineState::Paused;
        let was_at = shard.owner.as_ref().and_then(|owner| Some((*places.get(&owner.node)?, owner.generation)));
        let is_well = |&(at, generation): &(usize, Generation)| {
            self.nodes[at].is_alive && self.nodes[at].generation == generation
        };
        let well_at = was_at.filter(is_well).map(|(at, _)| at);
        let to = shard.handover.as_ref().map(|handover| places.get(&handover.to).copied());
        let to = to.map(|to| to.filter(|to| self.nodes[*to].takes()));
        let is_ending = shard.is_retiring || pipeline.state.is_ending();
        let held = Held { shard: id, rate: rate(id, inputs), is_ending, since: shard.since };
        match (well_at, to) {
            (None, _) if is_paused => {}
            (None, to) => {
                let known = [was_at.map(|(at, _)| at), to.flatten()];
                self.homeless.push(Homeless { shard: held, known });
            }
            (Some(_), Some(_)) if is_paused => decisions.cancel(id),
            (Some(_), None) if is_paused => {}
            (Some(at), None) => self.put(held, at),
            (Some(at), Some(None)) => {
                decisions.cancel(id);
                self.put(held, at);
            }
            (Some(_), Some(Some(to))) if is_late(id, shard, inputs) => self.assign(held, to, decisions),
            (Some(_), Some(Some(to))) => {
                self.moves_under_way += 1;
                self.count(held, to);
            }
        }
    }

    /// Gives a shard to a node.
    pub(super) fn assign(&mut self, shard: Held<'a>, to: usize, decisions: &mut Decisions<'a>) {
        let node = &self.nodes[to];
        decisions.assign(shard.shard, Owner { node: node.name.clone(), generation: node.generation });
        self.put(Held { since: self.now, ..shard }, to);
    }

    /// Starts the move of the shard that is held at `place` of node `from`.
    pub(super) fn start_move(&mut self, from: usize, place: usize, to: usize, decisions: &mut Decisions<'a>) {
        let shard = self.nodes[from].held.swap_remove(place);
        self.nodes[from].count -= 1;
        self.nodes[from].rate -= shard.rate;
        self.count(shard, to);
        self.moves_under_way += 1;
        decisions.start_move(shard.shard, self.nodes[to].name);
    }

    fn put(&mut self, shard: Held<'a>, at: usize) {
        self.count(shard, at);
        self.nodes[at].held.push(shard);
    }

    fn count(&mut self, shard: Held<'a>, at: usize) {
        self.nodes[at].count += 1;
        self.nodes[at].rate += shard.rate;
    }
}

/// Nodes in the order in which they get shards: fewest first, then least flow, then by name.
#[derive(Debug)]
pub(super) struct Queue(BTreeSet<(usize, u64, usize)>);

impl Queue {
    /// Those that have been well for a while; where there are none, those that are well.
    pub(super) fn new(board: &Board<'_>) -> Self {
        let any_is_filled = board.nodes.iter().any(Node::is_filled);
        let nodes = board.nodes.iter().enumerate();
        let nodes = nodes.filter(|(_, node)| if any_is_filled { node.is_filled() } else { node.takes() });
        Self(nodes.map(|(at, node)| (node.count, node.rate, at)).collect())
    }

    /// The node whose turn it is. `put` is to give it one shard more.
    pub(super) fn next<'a>(&mut self, board: &mut Board<'a>, put: impl FnOnce(&mut Board<'a>, usize)) -> bool {
        let Some((_, _, at)) = self.0.pop_first() else { return false };
        put(board, at);
        self.0.insert((board.nodes[at].count, board.nodes[at].rate, at));
        true
    }
}

fn node<'a>(name: &'a NodeName, member: &Member, inputs: &Inputs<'_>) -> Node<'a> {
    let health = inputs.nodes.get(name).filter(|health| health.is_alive);
    Node {
        name,
        generation: member.generation,
        state: member.state,
        is_alive: health.is_some(),
        is_stable: health.is_some_and(|health| health.stable_for >= inputs.settings.stable_after),
        count: 0,
        rate: 0,
        held: Vec::new(),
    }
}

fn is_late(id: &ShardId, shard: &Shard, inputs: &Inputs<'_>) -> bool {
    let under_way = inputs.late.get(id).zip(shard.handover.as_ref());
    under_way.is_some_and(|(late, handover)| late.epoch == shard.epoch && late.to == handover.to)
}

/// Whole readings a second: nobody moves a shard for less. 0 where only the count matters.
fn rate(id: &ShardId, inputs: &Inputs<'_>) -> u64 {
    if inputs.settings.balance == super::Balance::Count {
        return 0;
    }
    /// Far above any shard's, so that sums over all shards cannot overflow.
    const RATE_MAX: f64 = 1e12;
    let rate = inputs.rates.get(id).copied().unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, reason = "clamped before; a NaN becomes 0")]
    let whole = rate.clamp(0.0, RATE_MAX).round() as u64;
    whole
}
