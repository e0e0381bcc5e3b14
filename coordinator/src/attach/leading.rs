//! What a leader knows of the nodes that are attached to it: which stay is whose, what each was told, whose keep-alive waits.
//! Waits for nothing: time, the state and what Raft says of leading are arguments.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    admission::{self, Admission, Hello, Rejection, admit},
    part::{self, Change},
};
use crate::{
    leader::{health::Heard, pace::checkpoint_interval},
    model::{Generation, MemberState, NodeName, Owner, State},
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
    },
    /// What has changed of its part; true: with that it is complete.
    Part(Box<Change>, bool),
    /// A keep-alive is answered.
    Answer {
        /// The keep-alive's.
        number: u64,
        /// How long the lease is, from the keep-alive's sending.
        lease: Duration,
        /// Least time between two checkpoints.
        checkpoint_interval: Duration,
    },
    /// It cannot be part of this cluster.
    Refused(Rejection),
    /// Another node leads, perhaps there.
    NotLeader(Option<String>),
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
    /// Raft log index of the state that all stays were told of.
    told_index: Option<u64>,
    shards: usize,
}

#[derive(Debug)]
struct Stay {
    number: u64,
    owner: Owner,
    out: mpsc::Sender<Down>,
    /// None before the first part.
    told: Option<State>,
    /// The newest keep-alive without an answer.
    asked: Option<u64>,
}

impl Leading {
    /// Of `me`, whose rule in `term` starts now, after that of `previous` unless it was handed over.
    pub fn new(me: NodeName, lease: Duration, term: u64, previous: Option<NodeName>, now: Instant) -> Self {
        let heard = Heard::new(lease, previous, now);
        let (stays, lives) = (BTreeMap::new(), BTreeMap::new());
        Self { me, lease, term, heard, stays, lives, stays_so_far: 0, told_index: None, shards: 0 }
    }

    /// The term in which it leads.
    pub fn term(&self) -> u64 {
        self.term
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
    pub fn open(&mut self, hello: &Hello, generation: Generation, now: Instant) -> (u64, mpsc::Receiver<Down>) {
        self.registered(hello, generation);
        let owner = Owner { node: hello.name.clone(), generation };
        let (out, inbox) = mpsc::channel(WAITING_MAX);
        // The channel is new and has room.
        let _ = out.try_send(Down::Welcome { generation, leader: self.me.clone() });
        self.stays_so_far += 1;
        let number = self.stays_so_far;
        if hello.generation.is_none() {
            self.heard.started(&hello.name, now);
        } else {
            self.heard.kept_alive(&hello.name, now);
        }
        self.told_index = None;
        self.stays.insert(hello.name.clone(), Stay { number, owner, out, told: None, asked: None });
        (number, inbox)
    }

    /// A keep-alive has arrived in the node's stay of this number; false: that is over.
    pub fn keep_alive(&mut self, node: &NodeName, stay: u64, number: u64, now: Instant) -> bool {
        let Some(stay) = self.stays.get_mut(node).filter(|known| known.number == stay) else { return false };
        stay.asked = Some(number);
        self.heard.kept_alive(node, now);
        true
    }

    /// The node has left its stay of this number.
    pub fn close(&mut self, node: &NodeName, stay: u64) {
        if self.stays.get(node).is_some_and(|known| known.number == stay) {
            self.stays.remove(node);
        }
    }

    /// Tells every node what is new to it, then answers the keep-alives that had arrived before. `view` shows the state and its Raft log
    /// index; `lease_left` is asked after that.
    pub fn tell(
        &mut self,
        view: impl FnOnce(&mut dyn FnMut(&State, u64)),
        lease_left: impl FnOnce() -> Option<Duration>,
    ) {
        // In this order: what waits now is answered with what is applied now, and only if nobody else could have decided
        // anything by then.
        let asked: Vec<_> =
            self.stays.iter_mut().filter_map(|(node, stay)| Some((node.clone(), stay.asked.take()?))).collect();
        let mut lost = Vec::new();
        view(&mut |state, index| lost = self.tell_parts(state, index));
        let lease_left = lease_left();
        let checkpoint_interval = checkpoint_interval(self.stays.len(), self.shards);
        for (node, number) in asked {
            let Some(stay) = self.stays.get_mut(&node) else { continue };
            let Some(left) = lease_left else {
                stay.asked = stay.asked.or(Some(number));
                continue;
            };
            let lease = if node == self.me { self.lease.min(left) } else { self.lease };
            if stay.out.try_send(Down::Answer { number, lease, checkpoint_interval }).is_err() {
                lost.push(node);
            }
        }
        for node in lost {
            self.stays.remove(&node);
        }
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
    fn tell_parts(&mut self, state: &State, index: u64) -> Vec<NodeName> {
        if self.told_index == Some(index) {
            return Vec::new();
        }
        self.told_index = Some(index);
        self.shards = state.shards.len();
        let owners: BTreeSet<_> = self.stays.values().map(|stay| &stay.owner).collect();
        let mine = part::by_owner(state, &owners);
        let mut changes = BTreeMap::new();
        for (node, stay) in &self.stays {
            let shards = mine.get(&stay.owner).map_or(&[][..], Vec::as_slice);
            if let Some(change) = part::change(state, &stay.owner, shards, stay.told.as_ref()) {
                changes.insert(node.clone(), change);
            }
        }
        let mut lost = Vec::new();
        for (node, stay) in &mut self.stays {
            let is_gone = state.members.get(node).is_none_or(|member| member.state == MemberState::Gone);
            if is_gone {
                let _ = stay.out.try_send(Down::Refused(admission::removed(node)));
                lost.push(node.clone());
            } else if let Some(change) = changes.remove(node) {
                change.clone().apply(stay.told.get_or_insert_default());
                if stay.out.try_send(Down::Part(Box::new(change), true)).is_err() {
                    lost.push(node.clone());
                }
            }
        }
        lost
    }
}
