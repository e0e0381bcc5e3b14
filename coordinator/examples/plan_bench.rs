//! What a cluster of 1,000 nodes and 100,000 shards costs the leader: the time of a plan, of telling nodes their parts and of a snapshot,
//! and the memory.
//!
//! `cargo run --release -p sluice-coordinator --example plan_bench [nodes] [shards]`. Prints a table; ends with 1 if a bound is missed.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for whoever works on the planner")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::{Duration, Instant},
};

use prost::Message as _;
use sluice_coordinator::{
    Parts,
    machine::{
        ApplyPipeline, AssignShards, Command, Kind, RecordCheckpoints, RegisterMember, ShardAssignment, StartMoves,
        Touched, apply, invariants,
    },
    model::{
        Checkpoint, Epoch, Ledger, NodeName, Offset, Owner, PipelineSpec, RaftId, Revision, Session, ShardId,
        SourceIdentity, State, TaskState, TaskStatus, TopicPartition, UnixMs,
    },
    plan::{Balance, Health, Inputs, Settings, plan},
};
use sluice_proto::state::v1 as pb;

/// What the design asks for.
const PLAN_MAX: Duration = Duration::from_millis(500);
const SNAPSHOT_MAX: Duration = Duration::from_secs(5);
/// Nodes wait for half a lease, a second, for the answer to a keep-alive, which comes after what they are told. Of that, what a change
/// may take that is a matter of course; and one for which all must be looked at.
const TELL_MAX: Duration = Duration::from_millis(10);
const TELL_ALL_MAX: Duration = Duration::from_millis(500);
/// Proposals of checkpoints in a second, as the leader paces them.
const CHECKPOINTS_PER_SECOND: usize = 160;
/// So many pipelines share the shards.
const PIPELINES: u32 = 100;
/// Kafka partitions that each shard has written to.
const PARTITIONS: i32 = 12;

struct Bench {
    state: State,
    nodes: BTreeMap<NodeName, Health>,
    rates: BTreeMap<ShardId, f64>,
    settings: Settings,
    is_within_bounds: bool,
}

fn main() -> ExitCode {
    let numbers: Vec<u32> = std::env::args().skip(1).map(|word| word.parse().unwrap()).collect();
    let nodes = numbers.first().copied().unwrap_or(1_000);
    let shards = numbers.get(1).copied().unwrap_or(100_000);
    let mut bench = Bench::new(nodes, shards);
    println!("{nodes} nodes, {shards} shards in {PIPELINES} pipelines; {} MiB with the empty state", memory("VmRSS"));

    bench.plan("first placement of all shards");
    bench.plan("nothing to do");
    bench.checkpoint_all();
    bench.nodes.remove(&name(nodes / 2));
    bench.tell_all();
    bench.plan("one node lost");
    for ordinal in nodes..nodes + 10 {
        bench.join(ordinal);
    }
    bench.plan("ten nodes joined, 8 moves at a time");
    bench.settings.moves_max = usize::MAX;
    bench.plan("ten nodes joined, all moves at once");
    bench.rates = bench.state.shards.keys().map(|id| (id.clone(), f64::from(id.index % 17) * 100.0)).collect();
    let under_way = bench.state.shards.values().filter(|shard| shard.handover.is_some()).count();
    (bench.settings.balance, bench.settings.moves_max) = (Balance::Rate, under_way + 8);
    bench.plan("by rate, 8 moves more");
    bench.nodes.retain(|name, _| name.ordinal().is_none_or(|ordinal| !ordinal.is_multiple_of(2)));
    bench.plan("half of all nodes lost");

    bench.snapshot();
    println!("peak memory {} MiB", memory("VmHWM"));
    if bench.is_within_bounds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Bench {
    fn new(nodes: u32, shards: u32) -> Self {
        let mut bench = Self {
            state: State::default(),
            nodes: BTreeMap::new(),
            rates: BTreeMap::new(),
            settings: Settings::default(),
            is_within_bounds: true,
        };
        for ordinal in 0..nodes {
            bench.join(ordinal);
        }
        for pipeline in 0..PIPELINES {
            let spec = PipelineSpec {
                name: format!("readings-{pipeline}").parse().unwrap(),
                shards: (shards / PIPELINES).try_into().unwrap(),
                source: SourceIdentity {
                    servers: vec!["mqtts://mqtt.example.com:8883".to_owned()],
                    share_group: Some("sluice".to_owned()),
                    client_id_prefix: format!("sluice-readings-{pipeline}"),
                },
                filters: vec!["factory/+/+/reading".to_owned()],
                manifest: "x".repeat(1_000),
                must_keep_shards: false,
            };
            bench.apply(ApplyPipeline { spec });
        }
        bench
    }

    fn join(&mut self, ordinal: u32) {
        let address = |port| format!("sluice-{ordinal}.sluice.default.svc.cluster.local:{port}");
        let (address, admin_address) = (address(7070), address(7080));
        self.apply(RegisterMember { name: name(ordinal), raft_id: RaftId(ordinal.into()), address, admin_address });
        self.nodes.insert(name(ordinal), Health { is_alive: true, stable_for: Duration::from_secs(60) });
    }

    fn apply(&mut self, kind: impl Into<Kind>) {
        apply(&mut self.state, Command { proposed_at: UnixMs(1_700_000_000_000), kind: kind.into() });
    }

    /// Plans, tells how long it took and what came out, and applies it.
    fn plan(&mut self, what: &str) {
        let (now, late) = (UnixMs(1_700_000_001_000), BTreeMap::new());
        let inputs = Inputs { now, nodes: &self.nodes, rates: &self.rates, late: &late, settings: &self.settings };
        let (commands, took) = timed(|| plan(&self.state, &inputs));
        let shards: usize = commands.iter().map(shards_of).sum();
        let (_, applied) = timed(|| commands.into_iter().for_each(|command| drop(apply(&mut self.state, command))));
        println!(
            "{what:38} plan {:>6.1} ms, {shards:>6} shards concerned, applied in {:>6.1} ms, {} MiB",
            ms(took),
            ms(applied),
            memory("VmRSS")
        );
        self.is_within_bounds &= took < PLAN_MAX;
    }

    /// Every shard has a session and has delivered to every partition.
    fn checkpoints(&self) -> BTreeMap<Owner, Vec<(ShardId, Checkpoint)>> {
        let mut of: BTreeMap<Owner, Vec<(ShardId, Checkpoint)>> = BTreeMap::new();
        for (id, shard) in &self.state.shards {
            let offset =
                |partition| (TopicPartition { topic: "iot-sensor-readings".to_owned(), partition }, Offset(1 << 40));
            let checkpoint = Checkpoint {
                epoch: Epoch(shard.epoch.0),
                taken_at: UnixMs(1_700_000_000_500),
                ledger: Ledger { received: 1 << 40, delivered: 1 << 40, acked: 1 << 40, ..Ledger::default() },
                next_offsets: (0..PARTITIONS).map(offset).collect(),
                session: Some(Session {
                    revision: Revision(1),
                    filters: vec!["factory/+/+/reading".to_owned()],
                    is_open: true,
                }),
                status: TaskStatus { state: TaskState::Running, message: String::new() },
                released: false,
                oldest_unacked_ms: 5,
            };
            of.entry(shard.owner.clone().unwrap()).or_default().push((id.clone(), checkpoint));
        }
        of
    }

    fn checkpoint_all(&mut self) {
        let of = self.checkpoints();
        let commands = of.len();
        let (_, took) = timed(|| {
            for (node, checkpoints) in of {
                self.apply(RecordCheckpoints { node, checkpoints });
            }
        });
        println!(
            "{:38} {:.1} ms for {commands} commands, {} MiB",
            "a checkpoint of every shard applied",
            ms(took),
            memory("VmRSS")
        );
    }

    /// Tells every node its whole part, then what has changed.
    fn tell_all(&mut self) {
        let mut parts = Parts::default();
        let owners: BTreeSet<_> = self.state.shards.values().filter_map(|shard| shard.owner.clone()).collect();
        owners.into_iter().for_each(|owner| parts.attach(owner));
        while parts.has_untold() {
            self.tell(&mut parts, "told to new nodes, all of it", vec![], TELL_ALL_MAX);
        }
        let checkpoints = self.checkpoints().into_iter().take(CHECKPOINTS_PER_SECOND);
        let checkpoints = checkpoints.map(|(node, checkpoints)| RecordCheckpoints { node, checkpoints }.into());
        self.tell(&mut parts, "told after a second of checkpoints", checkpoints.collect(), TELL_MAX);
        let mut owned = self.state.shards.iter().filter_map(|(id, shard)| Some((id, shard.owner.as_ref()?)));
        let (shard, from) = owned.next().map(|(shard, owner)| (shard.clone(), owner)).unwrap();
        let owner = owned.map(|(_, owner)| owner).find(|owner| *owner != from).unwrap().clone();
        let move_one = AssignShards { assignments: vec![ShardAssignment { shard, owner }] };
        self.tell(&mut parts, "told after one shard was moved", vec![move_one.into()], TELL_MAX);
        let pipeline = self.state.pipelines.values().next().unwrap();
        let spec = PipelineSpec { manifest: "y".repeat(1_000), ..pipeline.spec.clone() };
        self.tell(&mut parts, "told after one pipeline was changed", vec![ApplyPipeline { spec }.into()], TELL_ALL_MAX);
    }

    fn tell(&mut self, parts: &mut Parts, what: &str, kinds: Vec<Kind>, within: Duration) {
        let (mut touched, proposed_at) = (Touched::default(), UnixMs(1_700_000_000_000));
        let commands = kinds.into_iter().map(|kind| Command { proposed_at, kind });
        let (_, applied) = timed(|| commands.for_each(|command| drop(touched.apply(&mut self.state, command))));
        let (changes, took) = timed(|| parts.changes(&self.state, &touched));
        let (took_ms, nodes) = (ms(took), changes.len());
        println!("{what:38} tell {took_ms:>6.2} ms, {nodes:>6} nodes concerned, applied in {:>6.1} ms", ms(applied));
        self.is_within_bounds &= took < within;
    }

    fn snapshot(&mut self) {
        let (copy, cloned) = timed(|| self.state.clone());
        let (bytes, encoded) = timed(|| pb::State::from(&copy).encode_to_vec());
        let (decoded, took) = timed(|| State::try_from(pb::State::decode(bytes.as_slice()).unwrap()).unwrap());
        let (checked, check) = timed(|| invariants::check(&decoded));
        checked.unwrap();
        assert_eq!(decoded, self.state);
        println!(
            "snapshot: copied in {:.0} ms, encoded in {:.0} ms to {:.1} MB, decoded in {:.0} ms, checked in {:.0} ms",
            ms(cloned),
            ms(encoded),
            f64::from(u32::try_from(bytes.len()).unwrap()) / 1e6,
            ms(took),
            ms(check)
        );
        self.is_within_bounds &= cloned + encoded + took + check < SNAPSHOT_MAX;
        let owners: BTreeSet<_> = decoded.shards.values().filter_map(|shard| shard.owner.as_ref()).collect();
        println!("{} members own shards", owners.len());
    }
}

fn name(ordinal: u32) -> NodeName {
    format!("sluice-{ordinal}").parse().unwrap()
}

fn shards_of(command: &Command) -> usize {
    match &command.kind {
        Kind::AssignShards(AssignShards { assignments }) => assignments.len(),
        Kind::StartMoves(StartMoves { moves }) => moves.len(),
        _ => 0,
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let from = Instant::now();
    let done = work();
    (done, from.elapsed())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// A figure of this process in MiB, by the kernel; 0 where it does not tell.
fn memory(figure: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(figure));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) / 1_024
}
