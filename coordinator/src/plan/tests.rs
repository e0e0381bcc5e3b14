//! Balance over a growing and shrinking cluster: even each time, with no move too many, and never more than allowed at once.

use std::{collections::BTreeMap, time::Duration};

use super::{Balance, Health, Inputs, Settings, plan};
use crate::{
    machine::{AssignShards, Kind, ShardAssignment, apply, invariants},
    model::{
        Epoch, Generation, Handover, Member, MemberState, NodeName, Owner, Pipeline, PipelineSpec, PipelineState,
        RaftId, Revision, Shard, ShardId, SourceIdentity, State, UnixMs,
    },
};

/// A cluster whose owners release at once.
struct Cluster {
    state: State,
    health: BTreeMap<NodeName, Health>,
    rates: BTreeMap<ShardId, f64>,
    settings: Settings,
    /// Times that a shard changed hands.
    moves: usize,
    most_at_once: usize,
}

impl Cluster {
    fn new(shards: u32) -> Self {
        let mut state = State::default();
        let name: crate::model::PipelineName = "readings".parse().unwrap();
        let spec = PipelineSpec {
            name: name.clone(),
            shards: shards.try_into().unwrap(),
            source: SourceIdentity { servers: Vec::new(), share_group: None, client_id_prefix: String::new() },
            filters: Vec::new(),
            manifest: String::new(),
            must_keep_shards: false,
        };
        let (revision, running, at) = (Revision(1), PipelineState::Running, UnixMs(0));
        let pipeline = Pipeline { spec, revision, state: running, applied_at: at, earlier: BTreeMap::new() };
        state.pipelines.insert(name.clone(), pipeline);
        for index in 0..shards {
            let shard =
                Shard { owner: None, epoch: Epoch(0), since: at, session: None, handover: None, is_retiring: false };
            state.shards.insert(ShardId::new(&name, index), shard);
        }
        let (health, rates, settings) = (BTreeMap::new(), BTreeMap::new(), Settings::default());
        Self { state, health, rates, settings, moves: 0, most_at_once: 0 }
    }

    fn join(&mut self, ordinals: std::ops::Range<u64>) {
        for ordinal in ordinals {
            let name: NodeName = format!("n-{ordinal}").parse().unwrap();
            let member = Member {
                raft_id: RaftId(ordinal),
                generation: Generation(1),
                address: String::new(),
                admin_address: String::new(),
                state: MemberState::Active,
                was_draining: false,
            };
            self.state.members.insert(name.clone(), member);
            self.health.insert(name, Health { is_alive: true, stable_for: Duration::from_secs(60) });
        }
    }

    fn set(&mut self, ordinals: std::ops::Range<u64>, state: MemberState) {
        for ordinal in ordinals {
            self.state.members.get_mut(&format!("n-{ordinal}").parse().unwrap()).unwrap().state = state;
        }
    }

    fn die(&mut self, ordinals: std::ops::Range<u64>) {
        for ordinal in ordinals {
            self.health.remove(&format!("n-{ordinal}").parse().unwrap());
        }
    }

    fn turn(&mut self) -> usize {
        let inputs = Inputs {
            now: UnixMs(1),
            nodes: &self.health,
            rates: &self.rates,
            late: &BTreeMap::new(),
            settings: &self.settings,
        };
        let commands = plan(&self.state, &inputs);
        let count = commands.len();
        for command in commands {
            if let Kind::AssignShards(AssignShards { assignments }) = &command.kind {
                let moved = |a: &&ShardAssignment| self.state.shards[&a.shard].owner.is_some();
                self.moves += assignments.iter().filter(moved).count();
            }
            apply(&mut self.state, command);
            invariants::check(&self.state).unwrap();
        }
        count
    }

    /// Until nothing is left to do. The moves that it took.
    fn settle(&mut self) -> usize {
        self.moves = 0;
        self.most_at_once = 0;
        while self.turn() > 0 {
            let moving: Vec<_> = self.state.shards.values_mut().filter(|shard| shard.handover.is_some()).collect();
            self.most_at_once = self.most_at_once.max(moving.len());
            for shard in moving {
                let Some(Handover { to, .. }) = shard.handover.take() else { continue };
                shard.owner = Some(Owner { node: to, generation: Generation(1) });
                shard.epoch = shard.epoch.next();
                self.moves += 1;
            }
        }
        self.moves
    }

    /// Shards of each living member that keeps some.
    fn loads(&self) -> Vec<usize> {
        let of = |name: &NodeName| {
            let owners = self.state.shards.values().filter_map(|shard| shard.owner.as_ref());
            owners.filter(|owner| owner.node == *name).count()
        };
        let takes = |(name, member): &(&NodeName, &Member)| {
            member.state == MemberState::Active && self.health.contains_key(*name)
        };
        self.state.members.iter().filter(takes).map(|(name, _)| of(name)).collect()
    }

    fn assert_even(&self) {
        let loads = self.loads();
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        assert!(most - least <= 1, "{loads:?}");
        assert_eq!(loads.iter().sum::<usize>(), self.state.shards.len());
    }
}

/// The fewest moves that make these loads even: what is above the higher share has to go, what is below the lower one to come.
fn fewest_moves(loads: &[usize], homeless: usize) -> usize {
    let total = loads.iter().sum::<usize>() + homeless;
    let (low, high) = (total / loads.len(), total.div_ceil(loads.len()));
    let above: usize = loads.iter().map(|load| load.saturating_sub(high)).sum();
    let below: usize = loads.iter().map(|load| low.saturating_sub(*load)).sum();
    homeless + above.max(below.saturating_sub(homeless))
}

#[test]
fn sixty_four_shards_over_one_two_three_five_two_nodes() {
    for leaving in [MemberState::Draining, MemberState::Stopping, MemberState::Active] {
        let mut cluster = Cluster::new(64);
        cluster.join(0..1);
        cluster.settle();
        for (from, to) in [(1, 2), (2, 3), (3, 5)] {
            cluster.join(from..to);
            let fewest = fewest_moves(&cluster.loads(), 0);
            assert_eq!(cluster.settle(), fewest, "{from} to {to}");
            assert!(cluster.most_at_once <= 8);
            cluster.assert_even();
        }
        // Active: killed.
        cluster.set(2..5, leaving);
        if leaving == MemberState::Active {
            cluster.die(2..5);
        }
        let loads = cluster.loads();
        let fewest = fewest_moves(&loads, 64 - loads.iter().sum::<usize>());
        assert_eq!(cluster.settle(), fewest, "5 to 2, {leaving:?}");
        cluster.assert_even();
    }
}

#[test]
fn any_loads_become_even_with_the_fewest_moves() {
    for (seed, nodes) in (1..200_u32).zip((2..9).cycle()) {
        let mut cluster = Cluster::new(seed % 60 + 1);
        cluster.join(0..nodes);
        for (at, shard) in (0_u32..).zip(cluster.state.shards.values_mut()) {
            let node = u64::from(at.wrapping_mul(seed).wrapping_mul(2_654_435_761) >> 16) % nodes;
            let node = format!("n-{}", if seed.is_multiple_of(2) { node } else { node / 2 }).parse().unwrap();
            shard.owner = Some(Owner { node, generation: Generation(1) });
            shard.epoch = Epoch(1);
        }
        let fewest = fewest_moves(&cluster.loads(), 0);
        assert_eq!(cluster.settle(), fewest, "seed {seed}");
        cluster.assert_even();
    }
}

#[test]
fn a_node_that_comes_and_goes_gets_nothing_until_it_stays() {
    let mut cluster = Cluster::new(12);
    cluster.join(0..3);
    cluster.settle();
    for _ in 0..5 {
        cluster.die(2..3);
        cluster.settle();
        let young = Health { is_alive: true, stable_for: Duration::from_secs(2) };
        cluster.health.insert("n-2".parse().unwrap(), young);
        assert_eq!(cluster.settle(), 0);
        assert_eq!(cluster.loads(), [6, 6, 0]);
    }
    cluster.join(2..3);
    assert_eq!(cluster.settle(), 4);
    cluster.assert_even();
}

#[test]
fn flows_become_even_without_the_counts_becoming_uneven() {
    let mut cluster = Cluster::new(40);
    cluster.settings.balance = Balance::Rate;
    cluster.join(0..4);
    cluster.settle();
    let flow = |cluster: &Cluster| {
        let mut flows = BTreeMap::<_, f64>::new();
        for (id, shard) in &cluster.state.shards {
            *flows.entry(shard.owner.as_ref().unwrap().node.clone()).or_default() += cluster.rates[id];
        }
        let most = flows.values().copied().fold(0.0, f64::max);
        (most, most - flows.values().copied().fold(f64::MAX, f64::min))
    };
    // Every shard of one node is hot.
    let hot: NodeName = "n-1".parse().unwrap();
    let rate = |shard: &Shard| if shard.owner.as_ref().unwrap().node == hot { 5_000.0 } else { 100.0 };
    cluster.rates = cluster.state.shards.iter().map(|(id, shard)| (id.clone(), rate(shard))).collect();
    assert_eq!(flow(&cluster), (50_000.0, 49_000.0));
    let moves = cluster.settle();
    cluster.assert_even();
    // Ten hot ones on four nodes: no node can have less than one more than another.
    assert_eq!(flow(&cluster), (15_700.0, 4_900.0));
    assert!(moves <= 20, "{moves}");
    // Rates sway; nobody moves for that.
    for (at, rate) in cluster.rates.values_mut().enumerate() {
        *rate *= if at.is_multiple_of(2) { 1.05 } else { 0.95 };
    }
    assert_eq!(cluster.settle(), 0);
}
