//! The leader's loop: gather, plan, propose. Runs on every voter and does something on the leader only.
//!
//! Woken by every applied command; what it proposes is applied and wakes it again, until the plan is empty.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use crate::{
    coordinator::{ProposeError, now, propose},
    machine::{Outcome, Refusal},
    model::{NodeName, State},
    plan::{Health, Inputs, Settings, plan},
    raft::Group,
};

/// How long to wait before planning again after a proposal that did not get through. Short against a human's patience, long
/// against the cost of a proposal.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Runs until `stop` changes or its sender is gone.
pub(crate) async fn run(group: Arc<Group>, propose_within: Duration, mut stop: watch::Receiver<bool>) {
    let mut applied = group.applied();
    loop {
        applied.borrow_and_update();
        let turn = async {
            match lead(&group, propose_within).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, "the plan did not get through, planning again");
                    sleep(RETRY_AFTER).await;
                    return Ok(());
                }
            }
            applied.changed().await
        };
        tokio::select! {
            _ = stop.changed() => return,
            turn = turn => if turn.is_err() { return },
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LeadError {
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// One turn: brings the assignments to what the plan says.
async fn lead(group: &Group, propose_within: Duration) -> Result<(), LeadError> {
    if !group.is_leading() {
        return Ok(());
    }
    let commands = group.view(|state| {
        let (nodes, rates, settings) = (everybody_is_well(state), BTreeMap::new(), Settings::default());
        plan(state, &Inputs { now: now(), nodes: &nodes, rates: &rates, settings: &settings })
    });
    for command in commands {
        match propose(group, command, propose_within).await? {
            Outcome::Assigned { changed } => tracing::info!(shards = changed, "assigned"),
            Outcome::Refused(refusal) => return Err(refusal.into()),
            _ => {}
        }
    }
    Ok(())
}

/// A group of one hears of nobody else.
fn everybody_is_well(state: &State) -> BTreeMap<NodeName, Health> {
    let well = Health { is_alive: true, stable_for: Duration::MAX };
    state.members.keys().map(|name| (name.clone(), well)).collect()
}
