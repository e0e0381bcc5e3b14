//! The leader's side of attaching: which nodes are attached, what each was told, which keep-alives wait for an answer.
//!
//! One per node, of use while this node leads. A node that attaches again replaces its stay of before; a node that does not take
//! what it is told loses its stay and comes again. Answers are made only in [`Stays::tell`], which first reads the state, so
//! what was decided before a keep-alive arrived is told before its answer. What there is to know and to decide is in `leading`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc};

use super::{
    admission::{self, Admission, Hello, Rejection},
    leading::{Down, Footing, Leading},
};
use crate::{
    clock::now,
    machine::{Command, Outcome, RefusalKind, RegisterMember},
    model::{Generation, NodeName, RaftId, State},
    plan::Health,
    raft::{Group, WriteError},
};

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
        if leading.as_ref().is_none_or(|leading| leading.term() != roles.term) {
            let previous = roles.previous_leader.filter(|id| *id != self.group.identity().raft_id);
            let previous = previous.and_then(|id| self.group.view(|state| name_of(state, id)));
            tracing::info!(term = roles.term, previous_leader = ?previous, "this node leads");
            *leading = Some(Leading::new(self.me.clone(), self.lease, roles.term, previous, Instant::now()));
        }
        if let Some(leading) = leading.as_mut() {
            leading.looked(Instant::now());
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
            Admission::Refused(Rejection::Removed { why, .. }) => {
                let still_votes = self.group.needs_vote_of(hello.raft_id);
                return Err(Down::Refused(Rejection::Removed { why, still_votes }));
            }
            Admission::Refused(why) => return Err(Down::Refused(why)),
            Admission::Register => self.register(&hello).await?,
        };
        let mut leading = self.lock();
        let leading = leading.as_mut().ok_or_else(not_leader)?;
        let is_in_group = self.group.roles().nodes.contains_key(&hello.raft_id);
        let (number, inbox) = leading.open(&hello, generation, is_in_group, Instant::now());
        drop(turn);
        self.asked.notify_one();
        Ok(Guest { stays: Arc::clone(self), node: hello.name, number, inbox })
    }

    fn admit(&self, hello: &Hello) -> Admission {
        let leading = self.lock();
        self.group.view(|state| match leading.as_ref() {
            Some(leading) => leading.admit(state, hello),
            None => admission::admit(state, hello, None),
        })
    }

    async fn register(&self, hello: &Hello) -> Result<Generation, Down> {
        let Hello { name, raft_id, address, admin_address, .. } = hello.clone();
        let kind = RegisterMember { name, raft_id, address, admin_address }.into();
        match self.group.write(Command { proposed_at: now(), kind }).await {
            Ok((Outcome::Registered { generation }, _)) => {
                if let Some(leading) = self.lock().as_mut() {
                    leading.registered(hello, generation);
                }
                tracing::info!(node = %hello.name, %generation, raft_id = %hello.raft_id, "node has registered");
                Ok(generation)
            }
            Ok((Outcome::Refused(refusal), _)) => {
                let is_removed = self.group.view(|state| state.removed.contains(&hello.raft_id));
                debug_assert_ne!(refusal.kind, RefusalKind::NotFound);
                Err(Down::Refused(if is_removed {
                    admission::removed(&hello.name, self.group.needs_vote_of(hello.raft_id))
                } else {
                    Rejection::WrongDisk(refusal.message)
                }))
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
        let mut leading = self.lock();
        let Some(leading) = leading.as_mut() else {
            // Who attaches later is told the whole part.
            self.group.view_touched(|_, _| {});
            return false;
        };
        leading.tell(|read| self.group.view_touched(|state, touched| read(state, touched)), || self.footing())
    }

    /// What Raft says now.
    fn footing(&self) -> Footing {
        let lease_left = self.group.lease_left();
        let roles = self.group.roles();
        let voters = roles.nodes.iter().filter(|(id, _)| roles.voters.contains(id)).map(|(_, node)| &node.address);
        let voters = voters.filter(|address| !address.is_empty()).cloned().collect();
        Footing { lease_left, group: roles.nodes.into_keys().collect(), voters }
    }

    /// How every member is. Not to be called while the state is being read: the two are locked in the other order.
    pub(crate) fn health(&self) -> BTreeMap<NodeName, Health> {
        self.of_members(Leading::health)
    }

    /// How long every member has been away. Not to be called while the state is being read.
    pub(crate) fn absences(&self) -> BTreeMap<NodeName, Duration> {
        self.of_members(Leading::absent_for)
    }

    fn of_members<T>(&self, of: impl Fn(&Leading, &NodeName, Instant) -> T) -> BTreeMap<NodeName, T> {
        let members: Vec<_> = self.group.view(|state| state.members.keys().cloned().collect());
        let (mut leading, now) = (self.lock(), Instant::now());
        let Some(leading) = leading.as_mut() else { return BTreeMap::new() };
        leading.looked(now);
        members.into_iter().map(|node| (node.clone(), of(leading, &node, now))).collect()
    }

    /// The leader before this one, while nobody knows whether it is still there.
    pub(crate) fn previous_leader(&self) -> Option<NodeName> {
        self.lock().as_ref()?.previous().cloned()
    }

    /// The leader before this one was asked whether it is still there.
    pub(crate) fn previous_leader_is(&self, is_there: bool) {
        if let Some(leading) = self.lock().as_mut() {
            leading.previous_is(is_there);
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

impl Guest {
    /// A keep-alive has arrived.
    pub(crate) fn keep_alive(&self, number: u64) {
        let mut leading = self.stays.lock();
        if leading.as_mut().is_some_and(|leading| leading.keep_alive(&self.node, self.number, number, Instant::now())) {
            self.stays.asked.notify_one();
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(leading) = self.stays.lock().as_mut() {
            leading.close(&self.node, self.number);
        }
    }
}

fn name_of(state: &State, id: RaftId) -> Option<NodeName> {
    state.members.iter().find(|(_, member)| member.raft_id == id).map(|(name, _)| name.clone())
}
