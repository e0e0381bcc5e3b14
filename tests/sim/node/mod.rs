//! A machine: up or down, paused or not, with the leader's part and the process that runs on it.

mod client;
mod leader;
mod process;
mod task;
mod words;

use sluice_coordinator::{
    machine::Outcome,
    model::{NodeName, Owner, RaftId},
};

pub(crate) use self::task::Task;
use self::{leader::Leader, process::Process};
use crate::{around::Around, net::Mail, raft::Asker, setup::Ms};

#[derive(Debug)]
pub(crate) struct Node {
    index: usize,
    leader: Leader,
    process: Option<Process>,
    /// When the process is started; none: it is up, or somebody else says when.
    pub(crate) starts_at: Option<Ms>,
    pub(crate) paused_until: Ms,
    /// It is stopping, and ends when it has nothing left, or then.
    pub(crate) leaves_by: Option<Ms>,
}

/// The name of the node of this number.
pub(crate) fn name(node: usize) -> NodeName {
    format!("sluice-{node}").parse().expect("a name")
}

/// And its disk's number.
fn raft_id(node: usize) -> RaftId {
    RaftId(node as u64 + 1)
}

impl Node {
    pub(crate) fn new(index: usize) -> Self {
        Self { index, leader: Leader::default(), process: None, starts_at: Some(0), paused_until: 0, leaves_by: None }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn runs(&self, now: Ms) -> bool {
        self.is_up() && now >= self.paused_until
    }

    pub(crate) fn kill(&mut self, starts_at: Ms, around: &mut Around) {
        if let Some(mut process) = self.process.take() {
            process.killed(around);
        }
        self.leader.killed(self.index, around);
        (self.leader, self.leaves_by) = (Leader::default(), None);
        around.raft.killed(self.index);
        (self.starts_at, self.paused_until) = (Some(starts_at), 0);
    }

    pub(crate) fn producer_dies(&mut self, around: &mut Around) {
        if let Some(process) = &mut self.process {
            process.producer_dies(around);
        }
    }

    /// A command that was taken in here was applied.
    pub(crate) fn answered(&mut self, asker: Asker, outcome: Outcome, around: &mut Around) {
        self.leader.answered(self.index, asker, outcome, around);
    }

    pub(crate) fn step(&mut self, around: &mut Around) {
        let now = around.now;
        if self.process.is_none() {
            around.net.refuse(self.index);
            if self.starts_at.is_some_and(|at| at <= now) {
                self.starts_at = None;
                let life = u64::from(around.chance.any());
                self.process = Some(Process::new(self.index, life, around));
                around.trace.say(now, format_args!("node {} starts", self.index));
            }
            return;
        }
        if now < self.paused_until {
            return;
        }
        for (from, mail) in around.net.receive(self.index, now) {
            match mail {
                Mail::Down(..) | Mail::Closed(_) | Mail::Outcome(..) => {
                    if let Some(process) = &mut self.process {
                        process.take(mail, around);
                    }
                }
                _ => self.leader.take(self.index, from, mail, around),
            }
        }
        self.leader.step(self.index, around);
        let Some(process) = &mut self.process else { return };
        process.step(around);
        let is_done = self.leaves_by.is_some_and(|by| now >= by || process.has_left());
        if is_done || process.client.is_rejected {
            self.kill(now + 500, around);
        }
    }

    /// Under which generation the cluster knows its process, if it does.
    pub(crate) fn owner(&self) -> Option<Owner> {
        self.process.as_ref()?.client.owner()
    }

    /// The tasks that run here.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.process.iter().flat_map(Process::tasks)
    }
}
