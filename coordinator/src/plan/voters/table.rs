//! The members as the autopilot sees them, and the rules, each a method that gives its step or none.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{Step, VoterInputs};
use crate::model::{MemberState, NodeName, RaftId};

/// Lowest ordinal first; names without one come last, by name.
type Order<'a> = (u32, &'a NodeName);

/// A member that has not been removed.
#[derive(Debug)]
struct Peer<'a> {
    order: Order<'a>,
    is_alive: bool,
    /// Alive and not about to go.
    is_here: bool,
    /// Here, and for a while.
    is_stable: bool,
    /// Here for so long that it may take the vote of one that is healthy.
    is_settled: bool,
    /// Has the log, nearly.
    is_caught_up: bool,
    /// Absent for so long that another may have its vote.
    is_lost: bool,
}

#[derive(Debug)]
pub(super) struct Table<'a> {
    inputs: &'a VoterInputs<'a>,
    /// By the disks they have now.
    peers: BTreeMap<RaftId, Peer<'a>>,
    /// How many votes there should be.
    wanted: usize,
    /// How many disks should have the log.
    copies: usize,
}

impl<'a> Table<'a> {
    pub(super) fn new(inputs: &'a VoterInputs<'a>) -> Self {
        let present = inputs.state.members.iter().filter(|(_, member)| member.state != MemberState::Gone);
        let peers: BTreeMap<_, _> =
            present.map(|(name, member)| (member.raft_id, peer(name, member.raft_id, member.state, inputs))).collect();
        let may_vote = |(id, peer): &(&RaftId, &Peer<'_>)| inputs.voters.contains(id) || peer.is_here;
        let copies = peers.iter().filter(may_vote).count().clamp(1, inputs.settings.voters_max.max(1));
        let wanted = if copies.is_multiple_of(2) { copies - 1 } else { copies };
        Self { inputs, peers, wanted, copies }
    }

    /// A vote that is lost goes to the first that is ready.
    pub(super) fn replace(&self) -> Option<Step> {
        let new = self.ready().next().filter(|_| self.inputs.voters.len() <= self.wanted)?;
        let lost = self.leaving().into_iter().filter(|id| self.peers.get(id).is_none_or(|peer| peer.is_lost));
        lost.filter_map(|old| self.give(old, new)).next()
    }

    /// Too many voters for the members there are.
    pub(super) fn demote(&self) -> Option<Step> {
        if self.inputs.voters.len() <= self.wanted {
            return None;
        }
        // Of those that stay, one at least keeps its vote, although it is away: those that were removed are about to end.
        let stays = |id: &RaftId| self.peers.contains_key(id);
        let may_go = |id: &RaftId| {
            let rest = self.inputs.voters.iter().filter(|voter| *voter != id).copied().collect::<BTreeSet<_>>();
            self.is_safe(&rest) && (!stays(id) || rest.iter().any(stays))
        };
        let mut going = self.leaving().into_iter().filter(may_go);
        let first = going.next()?;
        if first != self.inputs.leader {
            return Some(Step::Demote(first));
        }
        // A leader that cannot go yet holds up nobody who was removed too; but nobody else goes in its place.
        let removed = || going.find(|id| !self.peers.contains_key(id)).map(Step::Demote);
        self.hand_over(first).or_else(removed)
    }

    /// Too few: the first of two, or the second.
    pub(super) fn promote(&self) -> Option<Step> {
        let count = self.inputs.voters.len();
        let missing = if count.is_multiple_of(2) { 1 } else { 2 };
        let new = self.ready().next()?;
        let mut next = self.inputs.voters.clone();
        next.insert(new);
        let may = count + missing <= self.wanted && self.ready().count() >= missing && self.is_safe(&next);
        may.then_some(Step::Promote(new))
    }

    /// All is well, and one with a lower ordinal has been here for long: the votes go to the lowest ordinals.
    pub(super) fn displace(&self) -> Option<Step> {
        let new = self.displacer().filter(|id| self.is_ready(*id))?;
        let old = self.leaving().into_iter().next()?;
        self.give(old, new)
    }

    /// The log goes to those that may get a vote soon, and to as many disks as there is room for.
    pub(super) fn add_learner(&self) -> Option<Step> {
        let unlearned = |id: &RaftId| !self.inputs.learners.contains(id);
        let here = self.inputs.learners.iter().filter(|id| self.peers.get(id).is_some_and(|peer| peer.is_here));
        let next = if here.count() < self.learners_needed() {
            self.candidates().filter(|(_, peer)| peer.is_stable).map(|(id, _)| id).find(unlearned)
        } else {
            self.displacer().filter(unlearned)
        };
        next.map(Step::AddLearner)
    }

    /// Learners that are no members any more, and those that there is no room for.
    pub(super) fn forget(&self) -> Option<Step> {
        let spare = self.displacer();
        let count = self.inputs.learners.iter().filter(|id| Some(**id) != spare).count();
        let known = |id: &RaftId| self.peers.get(id);
        let worst = self.inputs.learners.iter().filter(|id| Some(**id) != spare);
        let worst = worst.max_by_key(|id| known(id).map_or((true, true, None), |p| (false, !p.is_here, Some(p.order))));
        let may = |id: &RaftId| known(id).is_none() || count > self.learners_needed();
        worst.copied().filter(may).map(Step::Forget)
    }

    /// Gives the vote of `old` to `new`, if the group then still has a living majority. A leader cannot do that to itself.
    fn give(&self, old: RaftId, new: RaftId) -> Option<Step> {
        let mut next: BTreeSet<_> = self.inputs.voters.iter().filter(|id| **id != old).copied().collect();
        next.insert(new);
        if !self.is_safe(&next) {
            return None;
        }
        if old == self.inputs.leader { self.hand_over(old) } else { Some(Step::Replace { old, new }) }
    }

    /// The best of the others is to lead. Who lags will catch up; but where there is no other voter, one who is ready becomes one.
    fn hand_over(&self, leader: RaftId) -> Option<Step> {
        let heir = self.heir(self.inputs.voters, leader).map(Step::TransferLeader);
        heir.or_else(|| self.ready().next().filter(|_| self.inputs.voters.len() == 1).map(Step::Promote))
    }

    /// The best of these voters to lead in the place of `leader`, if one of them can.
    pub(super) fn heir(&self, voters: &BTreeSet<RaftId>, leader: RaftId) -> Option<RaftId> {
        let others = voters.iter().filter(|id| **id != leader);
        let able = others.filter_map(|id| Some((id, self.peers.get(id)?)));
        let able = able.filter(|(_, peer)| peer.is_alive && peer.is_caught_up);
        able.min_by_key(|(_, peer)| (!peer.is_here, peer.order)).map(|(id, _)| *id)
    }

    /// The voters in the order in which they should go: removed or with a lost disk, the dead ones first; then those absent for
    /// long; of each the highest ordinals.
    fn leaving(&self) -> Vec<RaftId> {
        let mut voters: Vec<_> = self.inputs.voters.iter().copied().collect();
        voters.sort_by_key(|id| match self.peers.get(id) {
            None => (0, self.is_alive(*id), self.name_of(*id).map(order).map(Reverse)),
            Some(peer) => (if peer.is_lost { 1 } else { 2 }, false, Some(Reverse(peer.order))),
        });
        voters
    }

    /// Members that could get a vote, the first one first.
    fn candidates(&self) -> impl Iterator<Item = (RaftId, &Peer<'a>)> {
        let others = self.peers.iter().filter(|(id, peer)| !self.inputs.voters.contains(id) && peer.is_here);
        let mut others: Vec<_> = others.map(|(id, peer)| (*id, peer)).collect();
        others.sort_by_key(|(_, peer)| peer.order);
        others.into_iter()
    }

    /// Learners that can get a vote now.
    fn ready(&self) -> impl Iterator<Item = RaftId> {
        self.candidates().map(|(id, _)| id).filter(|id| self.is_ready(*id))
    }

    fn is_ready(&self, id: RaftId) -> bool {
        let is_able = self.peers.get(&id).is_some_and(|peer| peer.is_stable && peer.is_caught_up);
        is_able && self.inputs.learners.contains(&id)
    }

    /// The first that has been here for long and should rather have a vote than one who has, while nothing else is wrong.
    fn displacer(&self) -> Option<RaftId> {
        let voters = self.inputs.voters.iter().map(|id| self.peers.get(id).filter(|peer| peer.is_alive));
        let highest = voters.collect::<Option<Vec<_>>>()?.into_iter().map(|peer| peer.order).max()?;
        let mut first = self.candidates().filter(|(_, peer)| peer.is_settled && peer.order < highest);
        first.next().map(|(id, _)| id).filter(|_| self.inputs.voters.len() == self.wanted)
    }

    /// How many learners there should be: one for each disk that should have the log and has it from no voter that lasts; one
    /// more while votes are missing, lest all wait for one that never catches up.
    fn learners_needed(&self) -> usize {
        let lasting = |id: &&RaftId| self.peers.get(id).is_some_and(|peer| !peer.is_lost);
        let lasting = self.inputs.voters.iter().filter(lasting).count();
        self.copies.saturating_sub(lasting) + usize::from(lasting < self.wanted)
    }

    fn is_safe(&self, voters: &BTreeSet<RaftId>) -> bool {
        voters.iter().filter(|id| self.is_alive(**id)).count() * 2 > voters.len()
    }

    /// Whether the node with this disk lives; also one that was removed and has not ended yet.
    fn is_alive(&self, id: RaftId) -> bool {
        id == self.inputs.leader || self.inputs.reached.contains(&id)
    }

    fn name_of(&self, id: RaftId) -> Option<&'a NodeName> {
        self.inputs.state.members.iter().find(|(_, member)| member.raft_id == id).map(|(name, _)| name)
    }
}

fn order(name: &NodeName) -> Order<'_> {
    (name.ordinal().unwrap_or(u32::MAX), name)
}

fn peer<'a>(name: &'a NodeName, id: RaftId, state: MemberState, inputs: &VoterInputs<'_>) -> Peer<'a> {
    let settings = inputs.settings;
    let health = inputs.health.get(name).filter(|health| health.is_alive);
    let is_alive = health.is_some() || id == inputs.leader;
    let is_here = is_alive && state == MemberState::Active;
    let stable_for = health.map(|health| health.stable_for).unwrap_or_default();
    let matched = inputs.matched.get(&id).copied().unwrap_or_default();
    Peer {
        order: order(name),
        is_alive,
        is_here,
        is_stable: is_here && stable_for >= settings.stable_after,
        is_settled: is_here && stable_for >= settings.replace_after,
        is_caught_up: id == inputs.leader || matched.saturating_add(settings.caught_up_within) >= inputs.last_log,
        is_lost: !is_alive && inputs.absent_for.get(name).is_some_and(|absent| *absent >= settings.replace_after),
    }
}
