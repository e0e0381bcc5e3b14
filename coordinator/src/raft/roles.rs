//! Who is what in the group, and how far: what this node's Raft knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

use openraft::{Instant as _, Raft, RaftMetrics, ServerState, async_runtime::watch::WatchReceiver as _};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    alone::alone,
    group::Group,
    network::Addresses,
    state_machine::StateMachine,
    types::{RaftNode, TypeConfig},
};
use crate::model::{NodeName, RaftId};

/// The group as this node knows it. Followers may be behind; what only the leader knows is empty elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) term: u64,
    pub(crate) leader: Option<RaftId>,
    /// The leader's name and address, where the membership knows it.
    pub(crate) leader_name: Option<NodeName>,
    pub(crate) leader_address: Option<String>,
    /// Who votes: in a change of voters, those of before and of after.
    pub(crate) voters: BTreeSet<RaftId>,
    /// Set while a change of voters is not complete: those of after. A leader that finds it in a term of its own may set these
    /// voters again to complete it, in case the leader who began it is gone.
    pub(crate) voters_next: Option<BTreeSet<RaftId>>,
    pub(crate) learners: BTreeSet<RaftId>,
    /// Name and address of every voter and learner.
    pub(crate) nodes: BTreeMap<RaftId, RaftNode>,
    /// Index of this node's last entry; 0: none.
    pub(crate) last_log: u64,
    /// Leader only: up to which index each other's log is known to be the leader's. Absent: not yet heard of.
    pub(crate) matched: BTreeMap<RaftId, u64>,
    /// Leader only: how long ago the last message was sent that the other has answered. Absent: it answered none.
    pub(crate) last_contact: BTreeMap<RaftId, Duration>,
    /// Who led before the leader of the last applied entry; None where this node's log does not tell.
    pub(crate) previous_leader: Option<RaftId>,
}

/// Who leads, and since which term.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) term: u64,
    pub(crate) leader: Option<RaftId>,
}

impl Group {
    /// Whether this node leads and has applied all that earlier leaders committed: only then is a plan made on its state sound.
    pub(crate) fn is_leading(&self) -> bool {
        let (is_leader, term) = self.metrics(|metrics| (metrics.state == ServerState::Leader, metrics.current_term));
        is_leader && self.replica.read(|applied| applied.last.as_ref().is_some_and(|last| last.leader_id.term == term))
    }

    /// How long no other node can become leader yet, by what a quorum has acknowledged; None: this node does not lead, or
    /// another may lead already. A voter that has just restarted does not remember whom it acknowledged, and may shorten it.
    pub(crate) fn lease_left(&self) -> Option<Duration> {
        if !self.is_leading() {
            return None;
        }
        self.metrics(|metrics| {
            let me = self.me.raft_id.0;
            // Who told the others to elect a successor has no lease, and neither has a leader that removed itself.
            if self.given_up.load(Ordering::SeqCst) == metrics.current_term
                || !metrics.membership_config.voter_ids().any(|id| id == me)
            {
                return None;
            }
            if metrics.membership_config.voter_ids().eq([me]) {
                return Some(self.limits.lease);
            }
            self.limits.lease.checked_sub(metrics.last_quorum_acked?.elapsed()).filter(|left| !left.is_zero())
        })
    }

    /// Whether the group needs the vote of this disk, for all that this node knows: no change that takes it is committed.
    pub(crate) fn needs_vote_of(&self, id: RaftId) -> bool {
        self.metrics(|metrics| {
            let configs = [&metrics.membership_config, &metrics.committed_membership_config];
            configs.iter().any(|config| config.voter_ids().any(|voter| voter == id.0))
        })
    }

    pub(crate) fn roles(&self) -> Roles {
        let previous_leader = self.replica.read(|applied| applied.led_before);
        self.metrics(|metrics| {
            let membership = metrics.membership_config.membership();
            let leader_node = metrics.current_leader.and_then(|id| membership.get_node(&id));
            let configs = membership.get_joint_config();
            let ids = |set: &BTreeSet<u64>| set.iter().copied().map(RaftId).collect();
            Roles {
                term: metrics.current_term,
                leader: metrics.current_leader.map(RaftId),
                leader_name: leader_node.and_then(|node| node.name.parse().ok()),
                leader_address: leader_node.map(|node| node.address.clone()),
                voters: membership.voter_ids().map(RaftId).collect(),
                voters_next: configs.last().filter(|_| configs.len() > 1).map(ids),
                learners: membership.learner_ids().map(RaftId).collect(),
                nodes: membership.nodes().map(|(id, node)| (RaftId(*id), node.clone())).collect(),
                last_log: metrics.last_log_index.unwrap_or(0),
                matched: others(metrics.replication.as_ref(), |id| id.index),
                last_contact: others(metrics.heartbeat.as_ref(), |at| at.elapsed()),
                previous_leader,
            }
        })
    }

    /// Reads what Raft last said of itself. Raft waits meanwhile: what reads must read nothing else of the group inside.
    pub(super) fn metrics<T>(&self, read: impl FnOnce(&RaftMetrics<TypeConfig>) -> T) -> T {
        alone(|| read(&self.raft.metrics().borrow_watched()))
    }
}

/// What is known of those of whom something is known.
fn others<T: Clone, U>(known: Option<&BTreeMap<u64, Option<T>>>, of: impl Fn(T) -> U) -> BTreeMap<RaftId, U> {
    let known = known.into_iter().flatten();
    known.filter_map(|(id, value)| Some((RaftId(*id), of(value.clone()?)))).collect()
}

/// Keeps a watch on who leads, and on where everybody is, until Raft stops or the task is aborted.
pub(super) fn follow(
    raft: &Raft<TypeConfig, StateMachine>,
    addresses: Addresses,
) -> (watch::Receiver<Leadership>, JoinHandle<()>) {
    let (sender, receiver) = watch::channel(Leadership::default());
    let mut metrics = raft.metrics();
    let task = tokio::spawn(async move {
        let mut membership = None;
        loop {
            let now = {
                let metrics = metrics.borrow_watched();
                if membership.as_ref() != Some(&metrics.membership_config) {
                    addresses.learn(metrics.membership_config.nodes());
                    membership = Some(metrics.membership_config.clone());
                }
                Leadership { term: metrics.current_term, leader: metrics.current_leader.map(RaftId) }
            };
            sender.send_if_modified(|known| std::mem::replace(known, now) != now);
            if metrics.changed().await.is_err() {
                return;
            }
        }
    });
    (receiver, task)
}
