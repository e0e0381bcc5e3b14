//! The leader's loop: gather, compute, act. Runs on every node and does something on the leader only.
//!
//! A turn comes with every applied command, and every tenth of a second for what changes with time alone. What it proposes is
//! applied and wakes it again, until the plan is empty. What takes long, a change of the voters, runs beside it.

pub(crate) mod handovers;
pub(crate) mod health;
pub(crate) mod pace;
mod rates;
pub(crate) mod report;
mod voters;

use std::{
    collections::BTreeMap,
    future::ready,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep};

use crate::{
    clock::now,
    core::Core,
    join,
    machine::{Command, InitCluster, Outcome},
    model::{NodeName, State},
    plan::{Balance, Health, Inputs, plan},
    raft::WriteError,
};
use handovers::Handovers;
use rates::Rates;
use voters::Autopilot;

/// A node's lease, a handover's deadline: nothing that time alone changes needs to be seen sooner.
const TURN_EVERY: Duration = Duration::from_millis(100);
/// Applied commands within this time make one turn.
const REST: Duration = Duration::from_millis(10);
/// A turn may take a fifth of the time: planning for very many shards must not starve the node.
const REST_PER_TURN: u32 = 4;
/// Of the time that a lease is: who has sent a keep-alive waits for half of one, and is not to wait for most of that.
const REST_PER_LEASE: u32 = 8;
/// After a proposal that did not get through.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Commands of one plan that are proposed before planning again: each has at most a thousand shards, and is soon out of date.
const COMMANDS_PER_TURN_MAX: usize = 32;
/// Rates are measured over checkpoints, which come about once a second.
const RATES_EVERY: Duration = Duration::from_secs(1);
/// How long the leader before this one may take to say that it is still there. A killed one says nothing or refuses at once.
const PREVIOUS_ANSWERS_WITHIN: Duration = Duration::from_millis(150);

/// Runs until the node stops.
pub(crate) async fn run(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut applied = core.group.applied();
    let mut leader = Turns::default();
    loop {
        applied.borrow_and_update();
        let began = Instant::now();
        let turn = async {
            if let Err(error) = leader.turn(&core).await {
                tracing::warn!("the plan did not get through, planning again: {error}");
                sleep(RETRY_AFTER).await;
            }
            sleep((began.elapsed() * REST_PER_TURN).max(REST)).await;
            tokio::select! {
                changed = applied.changed() => changed.is_ok(),
                () = sleep(TURN_EVERY) => true,
            }
        };
        tokio::select! {
            goes_on = turn => if !goes_on { break },
            _ = stop.wait_for(|is_stopping| *is_stopping) => break,
        }
    }
    leader.autopilot.stop().await;
}

/// Tells attached nodes what concerns them, and answers their keep-alives, until the node stops.
pub(crate) async fn tell(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut applied = core.group.applied();
    loop {
        applied.borrow_and_update();
        let began = Instant::now();
        core.stays.refresh();
        let is_behind = core.stays.tell();
        let turn = async {
            let longest = core.settings.lease / REST_PER_LEASE;
            let rest = if is_behind { began.elapsed() } else { began.elapsed() * REST_PER_TURN };
            sleep(rest.min(longest).max(REST)).await;
            tokio::select! {
                () = ready(()), if is_behind => true,
                changed = applied.changed() => changed.is_ok(),
                () = core.stays.asked() => true,
                () = sleep(TURN_EVERY) => true,
            }
        };
        tokio::select! {
            goes_on = turn => if !goes_on { return },
            _ = stop.wait_for(|is_stopping| *is_stopping) => return,
        }
    }
}

/// What the loop remembers from one turn to the next.
#[derive(Debug, Default)]
struct Turns {
    term: Option<u64>,
    rates: Rates,
    rated_at: Option<Instant>,
    handovers: Handovers,
    autopilot: Autopilot,
}

impl Turns {
    async fn turn(&mut self, core: &Arc<Core>) -> Result<(), WriteError> {
        let term = core.stays.refresh();
        if term != self.term {
            (self.term, self.rates, self.rated_at) = (term, Rates::default(), None);
            self.handovers = Handovers::default();
        }
        // Without a quorum nothing can be changed, and another may lead already.
        if core.group.lease_left().is_none() || join::check_disk(core).is_err() {
            return Ok(());
        }
        init(core).await?;
        ask_previous(core).await;
        // Gather and compute.
        let nodes = core.stays.health();
        let commands = core.group.view(|state| self.plan(core, &nodes, state));
        // Act.
        for command in commands.into_iter().take(COMMANDS_PER_TURN_MAX) {
            tracing::debug!(%command, "proposing");
            match core.group.write(command).await? {
                (Outcome::Refused(refusal), _) => {
                    tracing::debug!(%refusal, "the plan is out of date, planning again");
                    break;
                }
                (Outcome::Assigned { changed }, _) if changed > 0 => tracing::info!(shards = changed, "assigned"),
                (Outcome::Moves { changed }, _) if changed > 0 => {
                    tracing::info!(shards = changed, "moves started or called off");
                }
                _ => {}
            }
        }
        self.autopilot.turn(core).await;
        Ok(())
    }

    fn plan(&mut self, core: &Core, nodes: &BTreeMap<NodeName, Health>, state: &State) -> Vec<Command> {
        let settings = &core.settings.plan;
        let mut rates = BTreeMap::new();
        if settings.balance == Balance::Rate {
            if self.rated_at.is_none_or(|at| at.elapsed() >= RATES_EVERY) {
                self.rates.observe(state);
                self.rated_at = Some(Instant::now());
            }
            rates = self.rates.table(now());
        }
        let late = self.handovers.late(state, settings.handover_deadline, Instant::now());
        plan(state, &Inputs { now: now(), nodes, rates: &rates, late: &late, settings })
    }
}

/// The cluster's first command.
async fn init(core: &Core) -> Result<(), WriteError> {
    let missing = core.group.view(|state| state.cluster_id.is_none());
    let Some(cluster_id) = core.group.identity().cluster_id.filter(|_| missing) else { return Ok(()) };
    let kind = InitCluster { cluster_id }.into();
    core.group.write(Command { proposed_at: now(), kind }).await.map(drop)
}

/// A leader that handed over or was voted out is alive and will attach here; one that was lost is not, and its shards move at once.
async fn ask_previous(core: &Core) {
    let Some(previous) = core.stays.previous_leader() else { return };
    let Some(address) = core.group.view(|state| state.members.get(&previous).map(|member| member.address.clone()))
    else {
        return;
    };
    match join::ask(core, &address, PREVIOUS_ANSWERS_WITHIN).await {
        Some(said) if said.answer.name == previous => core.stays.previous_leader_is(true),
        _ => core.stays.previous_leader_is(false),
    }
}
