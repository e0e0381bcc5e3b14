//! What changes the group's log: commands, and who votes.
//!
//! Only the leader can; others say who that is, as far as they know. A change that was certainly not appended may be tried
//! again by the caller; here that is done only for what passes by itself in moments.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use openraft::{
    ChangeMembers, ServerState,
    errors::{ChangeMembershipError, ClientWriteError, ForwardReason, ForwardToLeader, RaftError},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    group::Group,
    types::{RaftNode, TypeConfig},
};
use crate::{
    machine::{Command, Outcome},
    model::RaftId,
};

/// First and longest wait between two attempts.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// A new leader has its first answer from a quorum within a round trip. One that has none in so many of its leases has lost the
/// quorum, and somebody else may lead.
const LEASES_WAITED: u32 = 2;

/// Why a change has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteError {
    /// This node does not lead, or has lost its quorum. Nothing was changed.
    #[error("this node does not lead the coordinator's group, {}", leads(.leader))]
    NotLeader {
        /// Who does, with its address; it may be about to.
        leader: Option<(RaftId, String)>,
    },
    /// Raft does not take this change now. Nothing was changed.
    #[error("the coordinator's group did not take the change: {0}")]
    Refused(String),
    /// It was handed to the log; whether it will be applied is not known.
    #[error("not known whether the change took place: {0}")]
    Unknown(String),
    /// Raft has stopped on this node.
    #[error("the coordinator on this node has stopped: {0}")]
    Stopped(String),
}

fn leads(leader: &Option<(RaftId, String)>) -> String {
    leader.as_ref().map_or("nor knows who does".to_owned(), |(id, address)| format!("{id} at {address} does"))
}

impl Group {
    /// Proposes a command, and answers once it is applied here, with its log index.
    pub(crate) async fn write(&self, command: Command) -> Result<(Outcome, u64), WriteError> {
        let written = self.retry(|| self.raft.client_write(command.clone())).await?;
        let outcome = written.data.ok_or_else(|| WriteError::Stopped("a command had no outcome".to_owned()))?;
        Ok((outcome, written.log_id.index))
    }

    /// Takes a node in as a learner, which gets the log and has no vote. For one that is in already: gives it this address.
    /// Does not wait until it has caught up; see `Roles::matched`.
    pub(crate) async fn add_learner(&self, id: RaftId, node: RaftNode) -> Result<(), WriteError> {
        if self.metrics(|metrics| metrics.membership_config.get_node(&id.0) == Some(&node)) {
            return Ok(());
        }
        // Replacing an address is safe here: each request says for which disk it is, and another one refuses it.
        self.change(ChangeMembers::SetNodes([(id.0, node)].into())).await
    }

    /// Makes these the voters, in one joint change; all must be voters or learners. Those that were voters stay as learners.
    /// A leader does not take its own vote away, since it would go on leading without a lease: let another lead first.
    pub(crate) async fn set_voters(&self, voters: BTreeSet<RaftId>) -> Result<(), WriteError> {
        if !voters.contains(&self.me.raft_id) {
            return Err(WriteError::Refused("this node would lose its own vote: let another lead first".to_owned()));
        }
        self.change(ChangeMembers::ReplaceAllVoters(voters.into_iter().map(|id| id.0).collect())).await
    }

    /// Forgets a learner. A voter must be made a learner first.
    pub(crate) async fn remove_learner(&self, id: RaftId) -> Result<(), WriteError> {
        self.change(ChangeMembers::RemoveNodes([id.0].into())).await
    }

    /// Lets another voter lead, and answers once somebody else does. From the start on this node's lease is void.
    pub(crate) async fn transfer_leader(&self, to: RaftId) -> Result<(), WriteError> {
        let (is_leader, term, is_voter) = self.metrics(|metrics| {
            let is_voter = metrics.membership_config.voter_ids().any(|id| id == to.0);
            (metrics.state == ServerState::Leader, metrics.current_term, is_voter)
        });
        if !is_leader {
            return Err(self.not_leader());
        }
        if to == self.me.raft_id || !is_voter {
            return Err(WriteError::Refused(format!("{to} is no other voter")));
        }
        self.given_up.store(term, Ordering::SeqCst);
        self.raft.trigger().transfer_leader(to.0).await.map_err(|fatal| WriteError::Stopped(fatal.to_string()))?;
        let mut leadership = self.leader_changes();
        let is_over = leadership.wait_for(|now| now.term > term && now.leader.is_some());
        match timeout_at(Instant::now() + self.limits.change, is_over).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(WriteError::Stopped("raft has stopped".to_owned())),
            // It leads no more: the others were told, and it sends no heartbeats until there is a new leader.
            Err(_) => Err(WriteError::Unknown(format!("nobody leads after {:?}", self.limits.change))),
        }
    }

    /// A change of the membership. Runs to its end even if the caller gives up: the second half of a joint change must follow
    /// the first.
    async fn change(&self, members: ChangeMembers<u64, RaftNode>) -> Result<(), WriteError> {
        let changed = self.retry(|| {
            let (raft, members) = (self.raft.clone(), members.clone());
            let change = tokio::spawn(async move { raft.change_membership(members, true).await });
            async {
                match change.await {
                    Ok(changed) => changed,
                    // Its task is neither aborted nor panics.
                    Err(_) => Err(RaftError::Fatal(openraft::errors::Fatal::Stopped)),
                }
            }
        });
        changed.await.map(drop)
    }

    /// Tries until there is an answer that waiting does not mend, or time is over.
    async fn retry<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, WriteError>
    where
        F: Future<Output = Result<T, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>>,
    {
        let deadline = Instant::now() + self.limits.change;
        let lease_deadline = deadline.min(Instant::now() + self.limits.lease * LEASES_WAITED);
        let mut wait = RETRY_AFTER.0;
        loop {
            let Ok(answer) = timeout_at(deadline, attempt()).await else {
                return Err(WriteError::Unknown(format!("no answer in {:?}", self.limits.change)));
            };
            let (error, until) = match answer {
                Ok(done) => return Ok(done),
                Err(RaftError::Fatal(fatal)) => return Err(WriteError::Stopped(fatal.to_string())),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                    let is_new = forward.reason == ForwardReason::LeaseExpired;
                    let until = if is_new { lease_deadline } else { Instant::now() };
                    (not_leader(forward), until)
                }
                Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
                    let is_busy = matches!(
                        error,
                        ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_)
                    );
                    let until = if is_busy { deadline } else { Instant::now() };
                    (WriteError::Refused(error.to_string()), until)
                }
                Err(RaftError::APIError(ClientWriteError::PreconditionFailed(error))) => {
                    return Err(WriteError::Refused(error.to_string()));
                }
                Err(RaftError::APIError(error @ ClientWriteError::LogEntryDiscarded(_))) => {
                    return Err(WriteError::Unknown(error.to_string()));
                }
            };
            if Instant::now() + wait >= until {
                return Err(error);
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_AFTER.1);
        }
    }

    fn not_leader(&self) -> WriteError {
        let roles = self.roles();
        WriteError::NotLeader { leader: roles.leader.zip(roles.leader_address) }
    }
}

fn not_leader(forward: ForwardToLeader<TypeConfig>) -> WriteError {
    let leader = forward.leader_id.zip(forward.leader_node);
    WriteError::NotLeader { leader: leader.map(|(id, node)| (RaftId(id), node.address)) }
}
