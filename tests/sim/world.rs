//! A run: some nodes and what they have around them, faults for a while, then everything is mended and must come to rest.

use std::{collections::BTreeSet, fmt};

use sluice_coordinator::{
    machine::Kind,
    model::{PipelineState, Shard, ShardId},
};

use crate::{
    around::Around,
    broker::{Broker, profile::Profile},
    chance::Chance,
    coverage::Coverage,
    fact::Fact,
    faults::{self, Faults},
    invariants::{self, Invariant},
    kafka::{Id, Kafka},
    mutant::Mutant,
    net::Net,
    node::Node,
    operator::Operator,
    raft::Raft,
    setup::{CLIENT_IDS, Ms, STEP, Setup, pipeline},
    trace::Trace,
};

/// How long the cluster may take to come to rest: a task that failed again and again waits up to minutes before it tries again.
const REST_WITHIN: Ms = 400_000;
const LOOK_EVERY: Ms = 100;
/// A last interval of checkpoints, with what may hold one up.
const LAST_WORDS: Ms = 3_000;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) around: Around,
    pub(crate) nodes: Vec<Node>,
    operator: Operator,
    faults: Faults,
    invariants: Vec<Box<dyn Invariant>>,
    /// Sessions that a task could not end, and that an operator is told to remove.
    left_behind: BTreeSet<String>,
    /// Of each reading that a device saw acknowledged, how many groups were to get it: two, while a pipeline goes from one to another.
    pub(crate) acknowledged: Vec<u32>,
    /// Readings a second, in thousandths of a step.
    rate: u64,
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    what: String,
    at: Ms,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold after {} ms: {}", self.invariant, self.at, self.what)
    }
}

impl World {
    pub(crate) fn new(seed: u64, profile: Profile, mutant: Option<Mutant>, traced: usize) -> Self {
        let mut chance = Chance::new(seed);
        let setup = Setup::draw(&mut chance);
        let (operator, rate) = (Operator::new(setup.shards), chance.between(100, 900));
        let around = Around {
            now: 0,
            mutant,
            net: Net::default(),
            raft: Raft::new(setup.nodes),
            mqtt: Broker::new(profile, setup.qos.number()),
            kafka: Kafka::default(),
            runs: vec![false; setup.nodes],
            facts: Vec::new(),
            coverage: Coverage::default(),
            trace: Trace::new(traced),
            setup,
            chance,
        };
        let nodes = (0..around.setup.nodes).map(Node::new).collect();
        let (faults, acknowledged) = (Faults::default(), Vec::new());
        let (invariants, left_behind) = (invariants::all(), BTreeSet::new());
        Self { around, nodes, operator, faults, invariants, left_behind, acknowledged, rate }
    }

    /// Plays it to the end.
    pub(crate) fn run(&mut self) -> Result<Coverage, Broken> {
        while self.around.now < self.around.setup.faults_for {
            self.faults.step(&mut self.nodes, &mut self.operator, &mut self.around);
            self.publish();
            self.step()?;
        }
        faults::heal(&mut self.nodes, &mut self.operator, &mut self.around);
        let until = self.around.now + REST_WITHIN;
        let mut rests_since = None;
        while rests_since.is_none_or(|since| self.around.now < since + LAST_WORDS) {
            self.step()?;
            if !self.around.now.is_multiple_of(LOOK_EVERY) {
                continue;
            }
            self.remove_what_was_left();
            let unrest = self.unrest();
            match unrest {
                None => rests_since = rests_since.or(Some(self.around.now)),
                Some(_) => rests_since = None,
            }
            if let Some(what) = unrest.filter(|_| self.around.now >= until) {
                return Err(Broken { invariant: "what is mended comes to rest", what, at: self.around.now });
            }
        }
        self.end()
    }

    fn step(&mut self) -> Result<(), Broken> {
        let around = &mut self.around;
        around.now += STEP;
        for (runs, node) in around.runs.iter_mut().zip(&self.nodes) {
            *runs = node.runs(around.now);
        }
        around.raft.step(&around.runs, &around.net, around.mutant, &mut around.facts, around.now, &mut around.chance);
        for answer in std::mem::take(&mut around.raft.answers) {
            self.nodes[answer.leader].answered(answer.asker, answer.outcome, around);
        }
        around.kafka.step(around.now);
        around.mqtt.step(&around.net, &mut around.facts, around.now, &mut around.chance);
        self.operator.step(around);
        for node in &mut self.nodes {
            node.step(around);
        }
        for fact in std::mem::take(&mut around.facts) {
            around.coverage.add("moves", moves(&fact));
            if let Fact::LeftBehind { client_id } = &fact {
                self.left_behind.insert(client_id.clone());
            }
            if around.trace.is_on() {
                around.trace.say(around.now, format_args!("{}", invariants::words(&fact)));
            }
            for invariant in &mut self.invariants {
                let seen = invariant.see(&fact, around);
                seen.map_err(|what| Broken { invariant: invariant.name(), what, at: around.now })?;
            }
        }
        Ok(())
    }

    fn publish(&mut self) {
        let count = self.around.chance.below(2 * self.rate) / 500;
        for _ in 0..count {
            let id = Id::try_from(self.acknowledged.len()).unwrap_or(Id::MAX);
            let (mqtt, chance) = (&mut self.around.mqtt, &mut self.around.chance);
            self.acknowledged.push(mqtt.publish(id, self.around.now, chance));
        }
    }

    /// As the log tells an operator to, who waits until no shard has the session any more.
    fn remove_what_was_left(&mut self) {
        for client_id in std::mem::take(&mut self.left_behind) {
            let shards = self.around.raft.state.shards.keys();
            if !shards.map(|shard| format!("{CLIENT_IDS}-{}", shard.index)).any(|used| used == client_id) {
                self.around.mqtt.remove(&client_id, self.around.now, &mut self.around.chance);
            }
        }
    }

    /// What keeps the cluster from resting; none: nothing.
    fn unrest(&mut self) -> Option<String> {
        let around = &self.around;
        if !around.mqtt.is_empty() {
            return Some("readings wait in the broker".to_owned());
        }
        if !self.operator.is_content(around) {
            return Some("the operator still wants something".to_owned());
        }
        let state = &around.raft.state;
        let is_running = state.pipelines.get(&pipeline()).is_some_and(|now| now.state == PipelineState::Running);
        if !is_running || state.shards.values().any(|shard| shard.handover.is_some() || shard.is_retiring) {
            return Some("the pipeline is not as it should be, or shards are on their way".to_owned());
        }
        for (id, shard) in &state.shards {
            let is_it = |task: &&crate::node::Task| {
                task.peer.shard == *id && task.peer.epoch == shard.epoch && task.is_carrying()
            };
            if self.nodes.iter().flat_map(Node::tasks).filter(is_it).count() != 1 {
                return Some(format!("shard {id} is not carried: {shard:?}"));
            }
        }
        invariants::loads_are_even(self).err()
    }

    fn end(&mut self) -> Result<Coverage, Broken> {
        for invariant in &self.invariants {
            let ended = invariant.end(self);
            ended.map_err(|what| Broken { invariant: invariant.name(), what, at: self.around.now })?;
        }
        let mut coverage = self.around.coverage.clone();
        coverage.add("takeovers", self.around.mqtt.takeovers);
        coverage.add("redeliveries", self.around.mqtt.redeliveries);
        coverage.add("sessions forgotten", self.around.mqtt.sessions_forgotten);
        coverage.add("elections", self.around.raft.elections);
        coverage.add("readings", self.acknowledged.len() as u64);
        let copies =
            (0..).zip(&self.acknowledged).map(|(id, _)| u64::from(self.around.kafka.copies(id).saturating_sub(1)));
        coverage.add("repeats", copies.sum());
        coverage.add("seconds", self.around.now / 1_000);
        Ok(coverage)
    }
}

/// Shards that went over with their owner's last word.
fn moves(fact: &Fact) -> u64 {
    let Fact::Applied { before, after, command } = fact else { return 0 };
    if !matches!(command.kind, Kind::RecordCheckpoints(_)) {
        return 0;
    }
    let went = |(id, shard): &(&ShardId, &Shard)| {
        shard.owner.is_some() && before.shards.get(*id).is_some_and(|before| before.owner != shard.owner)
    };
    after.shards.iter().filter(went).count() as u64
}
