//! The autopilot: brings the Raft group to the voters that the plan wants, one step at a time.
//!
//! A step waits for a quorum, so it runs beside the leader's loop, in a task that this owns.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::{
    core::Core,
    model::RaftId,
    plan::voters::{EndChange, Step, VoterInputs, VoterSettings, end_change, next_step},
    raft::{RaftNode, WriteError},
};

/// After a step that failed: what was in its way, an election mostly, is over by then.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One step at a time, and when the next may come.
#[derive(Debug, Default)]
pub(super) struct Autopilot {
    step: Option<JoinHandle<Result<(), WriteError>>>,
    not_before: Option<Instant>,
}

/// What is done for a step.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    Take(RaftId, RaftNode),
    Vote(BTreeSet<RaftId>),
    Forget(RaftId),
    Transfer(RaftId),
}

impl Autopilot {
    /// Looks after the step under way, or begins the next.
    pub(super) async fn turn(&mut self, core: &Arc<Core>) {
        if let Some(step) = self.step.take_if(|step| step.is_finished()) {
            match step.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the voters are not as they should be yet");
                    self.not_before = Some(Instant::now() + RETRY_AFTER);
                }
                Err(error) => tracing::error!(%error, "a change of voters ended oddly"),
            }
        }
        // A node without a listener is a cluster of one.
        if self.step.is_some()
            || core.settings.address.is_empty()
            || self.not_before.is_some_and(|at| Instant::now() < at)
        {
            return;
        }
        let Some(act) = gather(core) else { return };
        tracing::info!(?act, "changing the Raft group");
        let group = Arc::clone(&core.group);
        self.step = Some(tokio::spawn(async move {
            match act {
                Act::Take(id, node) => group.add_learner(id, node).await,
                Act::Vote(voters) => group.set_voters(voters).await,
                Act::Forget(id) => group.remove_learner(id).await,
                Act::Transfer(id) => group.transfer_leader(id).await,
            }
        }));
    }

    /// The group finishes a change that it has begun by itself.
    pub(super) async fn stop(self) {
        if let Some(step) = self.step {
            step.abort();
            // Aborted, or over just before.
            drop(step.await);
        }
    }
}

fn gather(core: &Core) -> Option<Act> {
    let roles = core.group.roles();
    let leader = core.group.identity().raft_id;
    let (health, absent_for) = (core.stays.health(), core.stays.absences());
    let heard = roles.last_contact.iter().filter(|(_, ago)| **ago < core.settings.heard_within);
    let reached = heard.map(|(id, _)| *id).collect();
    core.group.view(|state| {
        let node_of = |id: RaftId| {
            let (name, member) = state.members.iter().find(|(_, member)| member.raft_id == id)?;
            Some(RaftNode { name: name.to_string(), address: member.address.clone() })
        };
        let stable_after = core.settings.plan.stable_after;
        let settings = VoterSettings { voters_max: core.settings.voters_max, stable_after, ..VoterSettings::default() };
        let inputs = VoterInputs {
            state,
            voters: &roles.voters,
            learners: &roles.learners,
            leader,
            last_log: roles.last_log,
            matched: &roles.matched,
            health: &health,
            reached: &reached,
            absent_for: &absent_for,
            settings: &settings,
        };
        // A leader before this one has begun a change of voters and not ended it.
        if let Some(next) = &roles.voters_next {
            return Some(match end_change(&inputs, next)? {
                EndChange::Complete => Act::Vote(next.clone()),
                EndChange::TransferLeader(id) => Act::Transfer(id),
            });
        }
        // A node that came back under another address is told to Raft before all else: it may be what a step waits for.
        let moved = roles.nodes.iter().find_map(|(id, known)| {
            let node = node_of(*id)?;
            (node.address != known.address && !node.address.is_empty()).then_some(Act::Take(*id, node))
        });
        if moved.is_some() {
            return moved;
        }
        let with = |id: RaftId| roles.voters.iter().copied().chain([id]).collect::<BTreeSet<_>>();
        let without = |id: RaftId| roles.voters.iter().copied().filter(|voter| *voter != id).collect::<BTreeSet<_>>();
        match next_step(&inputs)? {
            Step::AddLearner(id) => Some(Act::Take(id, node_of(id)?)),
            Step::Promote(id) => Some(Act::Vote(with(id))),
            Step::Demote(id) => Some(Act::Vote(without(id))),
            Step::Replace { old, new } => {
                let mut voters = without(old);
                voters.insert(new);
                Some(Act::Vote(voters))
            }
            Step::Forget(id) => Some(Act::Forget(id)),
            Step::TransferLeader(id) => Some(Act::Transfer(id)),
        }
    })
}
