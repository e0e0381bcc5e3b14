//! Raft, as those above it see it: one replicated state, at most one leader with a lease, commands that come to be applied, or not, or
//! nobody knows.
//!
//! A leader that is cut off goes on believing that it leads until it hears of another, but its lease ends first: nobody is elected before
//! it has, unless it handed over. What a leader that lost its quorum had taken in is committed by the next one or by nobody.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use sluice_coordinator::{
    machine::{Command, Kind, Outcome, RecordCheckpoints, Touched},
    model::{State, UnixMs},
};

use crate::{
    chance::Chance,
    fact::Fact,
    mutant::Mutant,
    net::{LinkNo, Net},
    setup::Ms,
};

/// The leader's lease, and the least time without one before an election.
const ELECTION_MAX: Ms = 1_000;

/// Who waits for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The leader's own loop.
    Plan,
    /// A node that says hello.
    Hello(LinkNo),
    /// A node, over the network.
    Call { node: usize, link: LinkNo },
    /// An operator, who looks at the state.
    Operator,
}

/// What became of a command that a leader took in.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) leader: usize,
    pub(crate) asker: Asker,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) struct Raft {
    pub(crate) state: Arc<State>,
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// The one that leads in this term.
    pub(crate) leader: Option<usize>,
    /// Who led before.
    pub(crate) previous: Option<usize>,
    pub(crate) voters: usize,
    /// By node, what was touched of the state since it last asked.
    touched: Vec<Touched>,
    lease_until: Ms,
    elects_at: Ms,
    /// Nobody has a quorum until then.
    pub(crate) no_quorum_until: Ms,
    /// Nodes that believe that they lead, in which term.
    believers: BTreeMap<usize, u64>,
    entries: VecDeque<Entry>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) elections: u64,
}

#[derive(Debug)]
struct Entry {
    at: Ms,
    leader: usize,
    asker: Asker,
    command: Command,
}

impl Raft {
    pub(crate) fn new(nodes: usize) -> Self {
        // As the product has it: 1 of 2, 3 of 3 and 4, 5 of 5.
        let voters = if nodes < 3 { 1 } else { nodes - (nodes + 1) % 2 };
        Self {
            state: Arc::default(),
            index: 0,
            term: 0,
            leader: None,
            previous: None,
            voters,
            touched: vec![Touched::default(); nodes],
            lease_until: 0,
            elects_at: 0,
            no_quorum_until: 0,
            believers: BTreeMap::new(),
            entries: VecDeque::new(),
            answers: Vec::new(),
            elections: 0,
        }
    }

    /// Whether `node` believes that it leads.
    pub(crate) fn leads(&self, node: usize) -> Option<u64> {
        self.believers.get(&node).copied()
    }

    /// Of `node`, how much is left of a lease that a quorum has granted.
    pub(crate) fn lease_left(&self, node: usize, now: Ms) -> Option<Ms> {
        let is_leader = self.leader == Some(node) && self.leads(node) == Some(self.term);
        is_leader.then(|| self.lease_until.saturating_sub(now)).filter(|left| *left > 0)
    }

    /// What was touched of the state since `node` last asked.
    pub(crate) fn touched(&mut self, node: usize) -> Touched {
        std::mem::take(&mut self.touched[node])
    }

    /// A leader takes a command in. False: it knows that it cannot.
    pub(crate) fn write(
        &mut self,
        leader: usize,
        asker: Asker,
        command: Command,
        now: Ms,
        chance: &mut Chance,
    ) -> bool {
        if self.lease_left(leader, now).is_none() {
            return false;
        }
        let at = (now + chance.below(20)).max(self.entries.back().map_or(0, |last| last.at));
        self.entries.push_back(Entry { at, leader, asker, command });
        true
    }

    /// The leader gives the lead away.
    pub(crate) fn hand_over(&mut self, now: Ms) {
        (self.lease_until, self.elects_at) = (0, now);
    }

    /// `runs`: which nodes are up and not paused.
    pub(crate) fn step(
        &mut self,
        runs: &[bool],
        net: &Net,
        mutant: Option<Mutant>,
        facts: &mut Vec<Fact>,
        now: Ms,
        chance: &mut Chance,
    ) {
        let quorum = |of: usize| {
            let heard = (0..self.voters).filter(|voter| runs[*voter] && net.is_joined(of, *voter)).count();
            now >= self.no_quorum_until && runs[of] && of < self.voters && heard > self.voters / 2
        };
        let leader = self.leader.filter(|leader| self.believers.contains_key(leader) && quorum(*leader));
        if let Some(leader) = leader
            && (self.lease_until > 0 || self.elects_at > now)
        {
            self.lease_until = now + ELECTION_MAX;
            self.elects_at = now + ELECTION_MAX + chance.below(500);
            self.commit(leader, mutant, facts, now);
        } else if now >= self.elects_at {
            let fit: Vec<_> = (0..self.voters).filter(|node| quorum(*node)).collect();
            if !fit.is_empty() {
                self.elect(fit[chance.place(fit.len())], now, chance);
            }
        }
        // Who hears of a later term follows.
        let (term, leader) = (self.term, self.leader);
        self.believers.retain(|node, believed| {
            *believed == term || !runs[*node] || leader.is_none_or(|leader| !net.reaches(leader, *node))
        });
    }

    /// The process of `node` is gone.
    pub(crate) fn killed(&mut self, node: usize) {
        self.believers.remove(&node);
    }

    fn elect(&mut self, node: usize, now: Ms, chance: &mut Chance) {
        self.term += 1;
        self.previous = self.leader;
        self.leader = Some(node);
        self.believers.insert(node, self.term);
        self.elections += 1;
        // What the leader before had taken in: each voter may have it or not, and the log has no holes.
        self.entries.truncate(chance.place(self.entries.len() + 1));
        (self.lease_until, self.elects_at) = (now + ELECTION_MAX, now + ELECTION_MAX);
    }

    fn commit(&mut self, leader: usize, mutant: Option<Mutant>, facts: &mut Vec<Fact>, now: Ms) {
        while self.entries.front().is_some_and(|entry| entry.at <= now) {
            let Some(entry) = self.entries.pop_front() else { return };
            let (before, command) = (Arc::clone(&self.state), Box::new(entry.command.clone()));
            let state = Arc::make_mut(&mut self.state);
            let mut touched = Touched::default();
            let outcome = match entry.command.kind {
                Kind::RecordCheckpoints(checkpoints) if mutant == Some(Mutant::OldCheckpointAccepted) => {
                    record_unchecked(state, &mut touched, checkpoints, entry.command.proposed_at)
                }
                _ => touched.apply(state, entry.command),
            };
            for all in &mut self.touched {
                all.is_all |= touched.is_all;
                all.members.extend(touched.members.iter().cloned());
                all.pipelines.extend(touched.pipelines.iter().cloned());
                all.shards.extend(touched.shards.iter().cloned());
            }
            self.index += 1;
            facts.push(Fact::Applied { before, after: Arc::clone(&self.state), command });
            // The one that took it in is not there any more, or is another: the answer is lost.
            if entry.leader == leader {
                self.answers.push(Answer { leader, asker: entry.asker, outcome });
            }
        }
    }
}

/// The mutant: each checkpoint comes under the epoch that its shard has now, and from its owner. They stand or fall alone anyway.
fn record_unchecked(state: &mut State, touched: &mut Touched, all: RecordCheckpoints, proposed_at: UnixMs) -> Outcome {
    for (id, mut checkpoint) in all.checkpoints {
        let Some(shard) = state.shards.get(&id) else { continue };
        let node = shard.owner.clone().unwrap_or_else(|| all.node.clone());
        checkpoint.epoch = shard.epoch;
        let kind = RecordCheckpoints { node, checkpoints: vec![(id, checkpoint)] }.into();
        touched.apply(state, Command { proposed_at, kind });
    }
    Outcome::Recorded { refused: Vec::new() }
}
