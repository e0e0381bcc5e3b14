//! What a node has around it: time, the network, Raft, the MQTT broker, Kafka; and who looks on.

use std::time::Instant;

use crate::{
    broker::Broker,
    chance::Chance,
    coverage::Coverage,
    fact::Fact,
    kafka::Kafka,
    mutant::Mutant,
    net::Net,
    raft::Raft,
    setup::{Ms, Setup},
    trace::Trace,
};

#[derive(Debug)]
pub(crate) struct Around {
    pub(crate) now: Ms,
    pub(crate) setup: Setup,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) chance: Chance,
    pub(crate) net: Net,
    pub(crate) raft: Raft,
    pub(crate) mqtt: Broker,
    pub(crate) kafka: Kafka,
    /// Which nodes are up and not paused.
    pub(crate) runs: Vec<bool>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
}

impl Around {
    pub(crate) fn instant(&self) -> Instant {
        self.setup.clock.at(self.now)
    }

    pub(crate) fn is_mutant(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The node that `node` takes for the leader, if it can call one. Whether it can hear the answer is not known before.
    pub(crate) fn leader_for(&self, node: usize) -> Option<usize> {
        let can_call = |other: &usize| self.runs[*other] && self.net.reaches(node, *other);
        if let Some(leader) = self.raft.leader.filter(|leader| self.raft.leads(*leader).is_some()).filter(can_call) {
            return Some(leader);
        }
        // One that was deposed and has not heard of it; it will say that it cannot.
        (0..self.runs.len()).filter(|other| self.raft.leads(*other).is_some()).find(can_call)
    }
}
