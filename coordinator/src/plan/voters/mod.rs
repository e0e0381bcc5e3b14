//! The voters' autopilot: who is to vote, one step at a time. Pure; the leader takes a step, looks again, and asks again.
//!
//! - An odd number of voters, at most `voters_max`, lowest ordinals first. Two members have one voter: with two, either one's
//!   absence stops the cluster, with one only that one's does. What is left of the room for `voters_max` learns: its disk has
//!   the log, and it can take a vote as soon as another comes.
//! - Growth is from odd to odd: the first of two is promoted when both are ready, so the even number lasts for one change.
//! - A vote is given from one node to another in one joint change, so that what the cluster tolerates never shrinks while
//!   somebody is there to take it. Only with nobody to take it, the number of voters goes down.
//! - A voter that is merely down keeps its vote, so a restart costs nothing. One that was removed, or lost its disk, gives it to the
//!   first that is ready; one that is absent for long does too, and stands in line again when it is back.
//! - A change that a leader before this one has begun is ended first. A leader that has no part in what comes of it lets one lead
//!   that has.
//! - No change leaves a group without a living majority. A leader who is to go hands leadership over first.

mod table;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::Health;
use crate::model::{NodeName, RaftId, State};

/// What the autopilot looks at.
#[derive(Debug, Clone, Copy)]
pub struct VoterInputs<'a> {
    /// The replicated state: its members are those who may vote.
    pub state: &'a State,
    /// Who votes now.
    pub voters: &'a BTreeSet<RaftId>,
    /// Who gets the log without a vote.
    pub learners: &'a BTreeSet<RaftId>,
    /// Whose loop this is.
    pub leader: RaftId,
    /// Index of the leader's last log entry.
    pub last_log: u64,
    /// Up to which index each peer is known to have the log.
    pub matched: &'a BTreeMap<RaftId, u64>,
    /// How members are; one that is not here is not alive.
    pub health: &'a BTreeMap<NodeName, Health>,
    /// Whose Raft has answered the leader just now: of those a majority must be left. It is known sooner than a lease is over, and one that
    /// was removed says nothing else any more.
    pub reached: &'a BTreeSet<RaftId>,
    /// How long those that are not alive have been so, as far as this leader knows; not here: not at all.
    pub absent_for: &'a BTreeMap<NodeName, Duration>,
    /// The operator's wishes.
    pub settings: &'a VoterSettings,
}

/// How the autopilot works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoterSettings {
    /// Most voters: 3 or 5. Default 5.
    pub voters_max: usize,
    /// How many entries a learner may lag behind and still count as caught up. Default 100: at most a second of a busy cluster.
    pub caught_up_within: u64,
    /// How long a node must have been alive to be taken. Default 5 s.
    pub stable_after: Duration,
    /// How long a voter must have been absent to lose its vote to another; and how long a node must have been there to take the
    /// vote of a healthy one with a higher ordinal. Default 10 min: longer than a machine's restart.
    pub replace_after: Duration,
}

impl Default for VoterSettings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { voters_max: 5, caught_up_within: 100, stable_after: seconds(5), replace_after: seconds(600) }
    }
}

/// One change of the Raft group. Who loses a vote stays a learner until it is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Let this member have the log.
    AddLearner(RaftId),
    /// Give this learner a vote.
    Promote(RaftId),
    /// Give the vote of `old` to the learner `new`, in one joint change.
    Replace {
        /// A voter.
        old: RaftId,
        /// A learner.
        new: RaftId,
    },
    /// Take this voter's vote.
    Demote(RaftId),
    /// No longer send the log to this learner.
    Forget(RaftId),
    /// Let this voter lead: the present leader is to go, and cannot change that itself.
    TransferLeader(RaftId),
}

/// See [`end_change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndChange {
    /// Set the next voters again.
    Complete,
    /// Let this one of the next voters lead, and complete it: the present leader would take its own vote away.
    TransferLeader(RaftId),
}

/// What to do next; None: all is as it should be, or nothing can be done now.
pub fn next_step(inputs: &VoterInputs<'_>) -> Option<Step> {
    let table = table::Table::new(inputs);
    let steps = [table::Table::replace, table::Table::demote, table::Table::promote, table::Table::displace];
    let votes = steps.iter().find_map(|step| step(&table));
    votes.or_else(|| table.add_learner()).or_else(|| table.forget())
}

/// How to end a change of voters that is half done, to `next`; None: nothing can be done now.
pub fn end_change(inputs: &VoterInputs<'_>, next: &BTreeSet<RaftId>) -> Option<EndChange> {
    if next.contains(&inputs.leader) {
        return Some(EndChange::Complete);
    }
    table::Table::new(inputs).heir(next, inputs.leader).map(EndChange::TransferLeader)
}
