//! The leader's side of attaching: which nodes are attached, what each was told, which keep-alives wait for an answer.
//!
//! One per node, of use while this node leads. A node that attaches again replaces its stay of before; a node that does not take
//! what it is told loses its stay and comes again. Answers are made only in [`Stays::tell`], which first reads the state, so
//! what was decided before a keep-alive arrived is told before its answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc};

use super::{
    admission::{self, Admission, Hello, Rejection, admit},
    part::Change,
    parts::Parts,
};
use crate::{
    clock::now,
    leader::{health::Heard, pace::checkpoint_interval},
    machine::{Command, Outcome, RefusalKind, RegisterMember, Touched},
    model::{Generation, MemberState, NodeName, Owner, RaftId, State},
    plan::Health,
    raft::{Group, WriteError},
};

/// What a node may have waiting for it. A part and an answer every few hundred milliseconds: this is seconds of not reading.
const WAITING_MAX: usize = 64;

/// What the leader tells a node.
#[derive(Debug)]
pub(crate) enum Down {
    /// Its generation, the leader's name, and whether the node is in the Raft group.
    Welcome { generation: Generation, leader: NodeName, is_replica: bool },
    /// What has changed of its part; true: with that it is complete.
    Part(Box<Change>, bool),
    /// Its keep-alive of this number is answered.
    Answer(Answer),
    /// It cannot be part of this cluster.
    Refused(Rejection),
    /// Another node leads, perhaps there.
    NotLeader(Option<String>),
}

/// The answer to a keep-alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Of the keep-alive.
    pub(crate) number: u64,
    pub(crate) lease: Duration,
    pub(crate) checkpoint_interval: Duration,
    /// Whether the node is in the Raft group.
    pub(crate) is_replica: bool,
    /// Where the voters are; empty: as told before.
    pub(crate) voters: Vec<String>,
}

/// All stays at this node.
#[derive(Debug)]
pub(crate) struct Stays {
    group: Arc<Group>,
    me: NodeName,
    lease: Duration,
    /// Locked before the state is read, never after: a writer that waits for readers holds up new ones.
    leading: Mutex<Option<Leading>>,
    /// One registration at a time, lest two hellos of one life get two generations.
    registering: tokio::sync::Mutex<()>,
    /// A keep-alive waits for its answer.
    asked: Notify,
}

/// What there is only while this node leads.
#[derive(Debug)]
struct Leading {
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

/// A node's own end of its stay. The stay ends with it.
#[derive(Debug)]
pub(crate) struct Guest {
    stays: Arc<Stays>,
    node: NodeName,
    number: u64,
    pub(crate) inbox: mpsc::Receiver<Down>,
}

impl Stays {
    pub(crate) fn new(group: Arc<Group>, me: NodeName, lease: Duration) -> Arc<Self> {
        let (leading, registering, asked) = (Mutex::default(), tokio::sync::Mutex::default(), Notify::new());
        Arc::new(Self { group, me, lease, leading, registering, asked })
    }

    /// Takes in whether this node leads. Returns the term in which it does.
    pub(crate) fn refresh(&self) -> Option<u64> {
        let mut leading = self.lock();
        if !self.group.is_leading() {
            // Senders go, so every stay ends and every node looks for the new leader.
            *leading = None;
            return None;
        }
        let roles = self.group.roles();
        if leading.as_ref().is_none_or(|leading| leading.term != roles.term) {
            let previous = roles.previous_leader.filter(|id| *id != self.group.identity().raft_id);
            let previous = previous.and_then(|id| self.group.view(|state| name_of(state, id)));
            tracing::info!(term = roles.term, previous_leader = ?previous, "this node leads");
            *leading = Some(Leading {
                term: roles.term,
                heard: Heard::new(self.lease, previous, Instant::now()),
                stays: BTreeMap::new(),
                lives: BTreeMap::new(),
                stays_so_far: 0,
                parts: Parts::default(),
                shards: 0,
            });
        }
        if let Some(leading) = leading.as_mut() {
            leading.heard.looked(Instant::now());
        }
        Some(roles.term)
    }

    /// A node says hello. What it is told first is its welcome, or why there is none.
    pub(crate) async fn open(self: &Arc<Self>, hello: Hello) -> Result<Guest, Down> {
        let not_leader = || Down::NotLeader(self.group.roles().leader_address);
        self.refresh().ok_or_else(not_leader)?;
        // Without a quorum there would be no answers.
        self.group.lease_left().ok_or_else(not_leader)?;
        let mut admission = self.admit(&hello);
        let turn = if admission == Admission::Register { Some(self.registering.lock().await) } else { None };
        if turn.is_some() {
            admission = self.admit(&hello);
        }
        let generation = match admission {
            Admission::Known(generation) => generation,
            Admission::Refused(why) => return Err(Down::Refused(why)),
            Admission::Register => self.register(&hello).await?,
        };
        let mut leading = self.lock();
        let leading = leading.as_mut().ok_or_else(not_leader)?;
        leading.lives.insert(hello.name.clone(), (hello.life, generation));
        let owner = Owner { node: hello.name.clone(), generation };
        let raft_id = hello.raft_id;
        let is_replica = self.group.roles().nodes.contains_key(&raft_id);
        let (out, inbox) = mpsc::channel(WAITING_MAX);
        // The channel is new and has room.
        let _ = out.try_send(Down::Welcome { generation, leader: self.me.clone(), is_replica });
        leading.stays_so_far += 1;
        let number = leading.stays_so_far;
        let is_new = hello.generation.is_none();
        if is_new {
            leading.heard.started(&hello.name, Instant::now());
        } else {
            leading.heard.kept_alive(&hello.name, Instant::now());
        }
        leading.parts.attach(owner);
        leading.stays.insert(hello.name.clone(), Stay { number, raft_id, out, voters: Vec::new(), asked: None });
        drop(turn);
        self.asked.notify_one();
        Ok(Guest { stays: Arc::clone(self), node: hello.name, number, inbox })
    }

    fn admit(&self, hello: &Hello) -> Admission {
        let given = self.lock().as_ref().and_then(|leading| leading.lives.get(&hello.name).copied());
        let given = given.filter(|(life, _)| *life == hello.life).map(|(_, generation)| generation);
        self.group.view(|state| admit(state, hello, given))
    }

    async fn register(&self, hello: &Hello) -> Result<Generation, Down> {
        let Hello { name, raft_id, address, admin_address, .. } = hello.clone();
        let kind = RegisterMember { name, raft_id, address, admin_address }.into();
        match self.group.write(Command { proposed_at: now(), kind }).await {
            Ok((Outcome::Registered { generation }, _)) => {
                if let Some(leading) = self.lock().as_mut() {
                    leading.lives.insert(hello.name.clone(), (hello.life, generation));
                }
                tracing::info!(node = %hello.name, %generation, raft_id = %hello.raft_id, "node has registered");
                Ok(generation)
            }
            Ok((Outcome::Refused(refusal), _)) => {
                let is_removed = self.group.view(|state| state.removed.contains(&hello.raft_id));
                debug_assert_ne!(refusal.kind, RefusalKind::NotFound);
                let why =
                    if is_removed { admission::removed(&hello.name) } else { Rejection::WrongDisk(refusal.message) };
                Err(Down::Refused(why))
            }
            Ok((other, _)) => Err(Down::Refused(Rejection::WrongDisk(format!("registering came to {other:?}")))),
            Err(WriteError::NotLeader { leader }) => Err(Down::NotLeader(leader.map(|(_, address)| address))),
            Err(error) => {
                tracing::warn!(node = %hello.name, %error, "node could not be registered; it comes again");
                Err(Down::NotLeader(None))
            }
        }
    }

    /// Tells nodes what is new to them, then answers the keep-alives that had arrived before. Returns whether some are left that were
    /// told nothing yet, and whose keep-alives wait.
    pub(crate) fn tell(&self) -> bool {
        let mut guard = self.lock();
        let Some(leading) = guard.as_mut() else {
            // Who attaches later is told the whole part.
            self.group.view_touched(|_, _| {});
            return false;
        };
        // In this order: what waits now is answered with what is applied now, and only if nobody else could have decided
        // anything by then.
        let asked: Vec<_> =
            leading.stays.iter_mut().filter_map(|(node, stay)| Some((node.clone(), stay.asked.take()?))).collect();
        let mut lost = self.group.view_touched(|state, touched| leading.tell_parts(state, touched));
        let lease_left = self.group.lease_left();
        let roles = self.group.roles();
        let voters = roles.nodes.iter().filter(|(id, _)| roles.voters.contains(id)).map(|(_, node)| &node.address);
        let voters: Vec<_> = voters.filter(|address| !address.is_empty()).cloned().collect();
        let checkpoint_interval = checkpoint_interval(leading.stays.len(), leading.shards);
        for (node, number) in asked {
            let Some(stay) = leading.stays.get_mut(&node) else { continue };
            let Some(left) = lease_left.filter(|_| leading.parts.is_told(&node)) else {
                stay.asked = stay.asked.or(Some(number));
                continue;
            };
            let lease = if node == self.me { self.lease.min(left) } else { self.lease };
            let is_replica = roles.nodes.contains_key(&stay.raft_id);
            let is_new = stay.voters != voters;
            let voters = if is_new { voters.clone() } else { Vec::new() };
            if is_new {
                stay.voters.clone_from(&voters);
            }
            let answer = Answer { number, lease, checkpoint_interval, is_replica, voters };
            if stay.out.try_send(Down::Answer(answer)).is_err() {
                lost.push(node);
            }
        }
        for node in lost {
            leading.stays.remove(&node);
            leading.parts.detach(&node);
        }
        leading.parts.has_untold()
    }

    /// How every member is. Not to be called while the state is being read: the two are locked in the other order.
    pub(crate) fn health(&self) -> BTreeMap<NodeName, Health> {
        self.of_members(Heard::of)
    }

    /// How long every member has been away. Not to be called while the state is being read.
    pub(crate) fn absences(&self) -> BTreeMap<NodeName, Duration> {
        self.of_members(Heard::absent_for)
    }

    fn of_members<T>(&self, of: impl Fn(&Heard, &NodeName, Instant) -> T) -> BTreeMap<NodeName, T> {
        let members: Vec<_> = self.group.view(|state| state.members.keys().cloned().collect());
        let (mut leading, now) = (self.lock(), Instant::now());
        let Some(leading) = leading.as_mut() else { return BTreeMap::new() };
        leading.heard.looked(now);
        members.into_iter().map(|node| (node.clone(), of(&leading.heard, &node, now))).collect()
    }

    /// The leader before this one, while nobody knows whether it is still there.
    pub(crate) fn previous_leader(&self) -> Option<NodeName> {
        self.lock().as_ref()?.heard.previous().cloned()
    }

    /// The leader before this one was asked whether it is still there.
    pub(crate) fn previous_leader_is(&self, is_there: bool) {
        if let Some(leading) = self.lock().as_mut() {
            leading.heard.previous_is(is_there);
        }
    }

    /// Waits for a keep-alive without an answer.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Leading>> {
        // What is behind it is only what this leader has heard; at worst nodes attach again.
        self.leading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leading {
    /// Returns who did not take it.
    fn tell_parts(&mut self, state: &State, touched: &Touched) -> Vec<NodeName> {
        self.shards = state.shards.len();
        let mut lost = Vec::new();
        for (node, change) in self.parts.changes(state, touched) {
            let Some(stay) = self.stays.get(&node) else { continue };
            let is_gone = state.members.get(&node).is_none_or(|member| member.state == MemberState::Gone);
            let down =
                if is_gone { Down::Refused(admission::removed(&node)) } else { Down::Part(Box::new(change), true) };
            if stay.out.try_send(down).is_err() || is_gone {
                lost.push(node);
            }
        }
        lost
    }
}

impl Guest {
    /// A keep-alive has arrived.
    pub(crate) fn keep_alive(&self, number: u64) {
        let mut leading = self.stays.lock();
        let Some(leading) = leading.as_mut() else { return };
        if let Some(stay) = leading.stays.get_mut(&self.node).filter(|stay| stay.number == self.number) {
            stay.asked = Some(number);
            let now = Instant::now();
            leading.heard.looked(now);
            leading.heard.kept_alive(&self.node, now);
            self.stays.asked.notify_one();
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(leading) = self.stays.lock().as_mut()
            && leading.stays.get(&self.node).is_some_and(|stay| stay.number == self.number)
        {
            leading.stays.remove(&self.node);
            leading.parts.detach(&self.node);
        }
    }
}

fn name_of(state: &State, id: RaftId) -> Option<NodeName> {
    state.members.iter().find(|(_, member)| member.raft_id == id).map(|(name, _)| name.clone())
}
