//! What a leader knows of the nodes that are attached to it: which stay is whose, what each was told, whose keep-alive waits.
//! Waits for nothing: time, the state and what Raft says of leading are arguments.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    admission::{self, Admission, Hello, Rejection, admit},
    part::Change,
    parts::Parts,
};
use crate::{
    leader::{health::Heard, pace::checkpoint_interval},
    machine::Touched,
    model::{Generation, MemberState, NodeName, Owner, RaftId, State},
    plan::Health,
};

/// What a node may have waiting for it. A part and an answer every few hundred milliseconds: this is seconds of not reading.
const WAITING_MAX: usize = 64;

/// What the leader tells a node.
#[derive(Debug)]
pub enum Down {
    /// How it is attached from now on.
    Welcome {
        /// Its own.
        generation: Generation,
        /// The leader's name.
        leader: NodeName,
        /// Whether the node is in the Raft group.
        is_in_group: bool,
    },
    /// What has changed of its part; true: with that it is complete.
    Part(Box<Change>, bool),
    /// A keep-alive is answered.
    Answer(Answer),
    /// It cannot be part of this cluster.
    Refused(Rejection),
    /// Another node leads, perhaps there.
    NotLeader(Option<String>),
}

/// The answer to a keep-alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The keep-alive's.
    pub number: u64,
    /// How long the lease is, from the keep-alive's sending.
    pub lease: Duration,
    /// Least time between two checkpoints.
    pub checkpoint_interval: Duration,
    /// Whether the node is in the Raft group.
    pub is_in_group: bool,
    /// Where the voters are; empty: as told before.
    pub voters: Vec<String>,
}

/// What Raft says of this leader and of its group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footing {
    /// For how long nobody else can decide anything; None: another may.
    pub lease_left: Option<Duration>,
    /// Who is in the group.
    pub group: BTreeSet<RaftId>,
    /// Where the voters are.
    pub voters: Vec<String>,
}

/// What there is only while this node leads, in one term.
#[derive(Debug)]
pub struct Leading {
    me: NodeName,
    lease: Duration,
    term: u64,
    heard: Heard,
    stays: BTreeMap<NodeName, Stay>,
    /// Which life of which process was given which generation.
    lives: BTreeMap<NodeName, (u64, Generation)>,
    stays_so_far: u64,
    /// What all stays were told.
    parts: Parts,
    shards: usize,
}

#[derive(Debug)]
struct Stay {
    number: u64,
    raft_id: RaftId,
    out: mpsc::Sender<Down>,
    /// Where it was told that the voters are.
    voters: Vec<String>,
    /// The newest keep-alive without an answer.
    asked: Option<u64>,
}

impl Leading {
    /// Of `me`, whose rule in `term` starts now, after that of `previous` unless it was handed over.
    pub fn new(me: NodeName, lease: Duration, term: u64, previous: Option<NodeName>, now: Instant) -> Self {
        let heard = Heard::new(lease, previous, now);
        let (stays, lives, parts) = (BTreeMap::new(), BTreeMap::new(), Parts::default());
        Self { me, lease, term, heard, stays, lives, stays_so_far: 0, parts, shards: 0 }
    }

    /// The term in which it leads.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// To be called before anything else is taken in or asked, many times in a lease: a standstill of the leader counts against nobody.
    pub fn looked(&mut self, now: Instant) {
        self.heard.looked(now);
    }

    /// Decides on a hello.
    pub fn admit(&self, state: &State, hello: &Hello) -> Admission {
        let given = self.lives.get(&hello.name).filter(|(life, _)| *life == hello.life);
        admit(state, hello, given.map(|(_, generation)| *generation))
    }

    /// The process that said `hello` was given its generation, which it may not learn at once.
    pub fn registered(&mut self, hello: &Hello, generation: Generation) {
        self.lives.insert(hello.name.clone(), (hello.life, generation));
    }

    /// Begins a stay, in place of the node's stay of before. Returns its number, and what the node is told, its welcome first.
    /// `is_in_group`: the node is in the Raft group.
    pub fn open(
        &mut self,
        hello: &Hello,
        generation: Generation,
        is_in_group: bool,
        now: Instant,
    ) -> (u64, mpsc::Receiver<Down>) {
        self.registered(hello, generation);
        let owner = Owner { node: hello.name.clone(), generation };
        let (out, inbox) = mpsc::channel(WAITING_MAX);
        // The channel is new and has room.
        let _ = out.try_send(Down::Welcome { generation, leader: self.me.clone(), is_in_group });
        self.stays_so_far += 1;
        let number = self.stays_so_far;
        if hello.generation.is_none() {
            self.heard.started(&hello.name, now);
        } else {
            self.heard.kept_alive(&hello.name, now);
        }
        self.parts.attach(owner);
        let stay = Stay { number, raft_id: hello.raft_id, out, voters: Vec::new(), asked: None };
        self.stays.insert(hello.name.clone(), stay);
        (number, inbox)
    }

    /// A keep-alive has arrived in the node's stay of this number; false: that is over.
    pub fn keep_alive(&mut self, node: &NodeName, stay: u64, number: u64, now: Instant) -> bool {
        let Some(stay) = self.stays.get_mut(node).filter(|known| known.number == stay) else { return false };
        stay.asked = Some(number);
        self.heard.looked(now);
        self.heard.kept_alive(node, now);
        true
    }

    /// The node has left its stay of this number.
    pub fn close(&mut self, node: &NodeName, stay: u64) {
        if self.stays.get(node).is_some_and(|known| known.number == stay) {
            self.leave(node);
        }
    }

    /// Tells nodes what is new to them, then answers the keep-alives that had arrived before. `view` shows the state and what of it was
    /// touched since it was last shown; `footing` is asked after that. Returns whether some are left that were told nothing yet, and whose
    /// keep-alives wait.
    pub fn tell(
        &mut self,
        view: impl FnOnce(&mut dyn FnMut(&State, &Touched)),
        footing: impl FnOnce() -> Footing,
    ) -> bool {
        // In this order: what waits now is answered with what is applied now, and only if nobody else could have decided
        // anything by then.
        let asked: Vec<_> =
            self.stays.iter_mut().filter_map(|(node, stay)| Some((node.clone(), stay.asked.take()?))).collect();
        let mut lost = Vec::new();
        view(&mut |state, touched| lost = self.tell_parts(state, touched));
        let footing = footing();
        let checkpoint_interval = checkpoint_interval(self.stays.len(), self.shards);
        for (node, number) in asked {
            let Some(stay) = self.stays.get_mut(&node) else { continue };
            let Some(left) = footing.lease_left.filter(|_| self.parts.is_told(&node)) else {
                stay.asked = stay.asked.or(Some(number));
                continue;
            };
            let lease = if node == self.me { self.lease.min(left) } else { self.lease };
            let is_in_group = footing.group.contains(&stay.raft_id);
            let is_new = stay.voters != footing.voters;
            let voters = if is_new { footing.voters.clone() } else { Vec::new() };
            if is_new {
                stay.voters.clone_from(&voters);
            }
            let answer = Answer { number, lease, checkpoint_interval, is_in_group, voters };
            if stay.out.try_send(Down::Answer(answer)).is_err() {
                lost.push(node);
            }
        }
        for node in lost {
            self.leave(&node);
        }
        self.parts.has_untold()
    }

    /// How `node` is.
    pub fn health(&self, node: &NodeName, now: Instant) -> Health {
        self.heard.of(node, now)
    }

    /// How long `node` has been away.
    pub fn absent_for(&self, node: &NodeName, now: Instant) -> Duration {
        self.heard.absent_for(node, now)
    }

    /// The leader before this one, while nobody knows whether it is still there.
    pub fn previous(&self) -> Option<&NodeName> {
        self.heard.previous()
    }

    /// The leader before this one was asked whether it is still there.
    pub fn previous_is(&mut self, is_there: bool) {
        self.heard.previous_is(is_there);
    }

    /// Returns who did not take it.
    fn tell_parts(&mut self, state: &State, touched: &Touched) -> Vec<NodeName> {
        self.shards = state.shards.len();
        let mut lost = Vec::new();
        for (node, change) in self.parts.changes(state, touched) {
            let Some(stay) = self.stays.get(&node) else { continue };
            let is_gone = state.members.get(&node).is_none_or(|member| member.state == MemberState::Gone);
            // Whether its vote is needed it is told when it asks again.
            let down = if is_gone {
                Down::Refused(admission::removed(&node, true))
            } else {
                Down::Part(Box::new(change), true)
            };
            if stay.out.try_send(down).is_err() || is_gone {
                lost.push(node);
            }
        }
        lost
    }

    fn leave(&mut self, node: &NodeName) {
        self.stays.remove(node);
        self.parts.detach(node);
    }
}
