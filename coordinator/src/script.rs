//! Scripted transcripts: a small text drives the state machine and the planner, and what comes out is compared with what the
//! same file says. Invariants are checked after every command.
//!
//! A file is blocks of commands, `---`, and the output they must give. `SLUICE_BLESS=1` writes the output into the files.
//! Each command is one second later than the one before. Members are alive and stable unless the script says otherwise.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    leader::handovers::Handovers,
    machine::{
        self, ApplyPipeline, AssignShards, CancelMoves, Command, DeletePipeline, InitCluster, Kind, Outcome,
        PausePipeline, RecordCheckpoints, RegisterMember, RemoveMember, ResumePipeline, SetMemberState,
        ShardAssignment, StartMoves, invariants,
    },
    model::{
        Checkpoint, Epoch, Generation, Ledger, MemberState, NodeName, Owner, PipelineSpec, RaftId, Revision, Session,
        ShardId, SourceIdentity, State, TaskState, TaskStatus, UnixMs,
    },
    plan::{Balance, Health, Inputs, Late, Settings, plan},
};

/// Runs every script in `dir` and compares.
pub(crate) fn run_all(dir: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut count = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let wanted = fs::read_to_string(&path).unwrap();
        let got = transcript(&wanted);
        if std::env::var_os("SLUICE_BLESS").is_some() {
            fs::write(&path, &got).unwrap();
        } else {
            assert_eq!(got, wanted, "{}: if the new output is right, run again with SLUICE_BLESS=1", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "no scripts in {}", dir.display());
}

/// The script with the output that it really gives.
fn transcript(script: &str) -> String {
    let mut machine = Machine::new();
    let mut out = String::new();
    let mut is_output = false;
    for line in script.lines() {
        match (line, is_output) {
            ("", true) => {
                is_output = false;
                out.push('\n');
            }
            (_, true) => {}
            ("---", false) => {
                is_output = true;
                out.push_str("---\n");
                out.push_str(&std::mem::take(&mut machine.said));
            }
            (line, false) => {
                out.push_str(line);
                out.push('\n');
                if !line.is_empty() && !line.starts_with('#') {
                    machine.line(line);
                }
            }
        }
    }
    out
}

struct Machine {
    state: State,
    now: UnixMs,
    said: String,
    /// How members are, where they are not well.
    health: BTreeMap<NodeName, Health>,
    rates: BTreeMap<ShardId, f64>,
    settings: Settings,
    handovers: Handovers,
    began: Instant,
}

/// A command line's words: bare ones in order, `key=value` ones by key.
struct Words<'a> {
    bare: Vec<&'a str>,
    keyed: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Self {
        let (keyed, bare): (Vec<_>, Vec<_>) = line.split_whitespace().partition(|word| word.contains('='));
        Self { bare, keyed: keyed.into_iter().map(|word| word.split_once('=').unwrap()).collect() }
    }

    fn number(&self, key: &str, default: u64) -> u64 {
        self.keyed.get(key).map_or(default, |value| value.parse().unwrap())
    }

    fn has(&self, word: &str) -> bool {
        self.bare.contains(&word)
    }

    fn text(&self, key: &str, default: &'a str) -> &'a str {
        self.keyed.get(key).copied().unwrap_or(default)
    }
}

impl Machine {
    fn new() -> Self {
        let (state, now, said, settings) = (State::default(), UnixMs(0), String::new(), Settings::default());
        let (health, rates, handovers) = (BTreeMap::new(), BTreeMap::new(), Handovers::default());
        Self { state, now, said, health, rates, settings, handovers, began: Instant::now() }
    }

    fn line(&mut self, line: &str) {
        let words = Words::new(line);
        match words.bare[0] {
            "show" => self.show(),
            "plan" => {
                if self.plan() == 0 {
                    self.said.push_str("nothing to do\n");
                }
            }
            "settle" => self.settle(),
            "wait" => self.now = UnixMs(self.now.0 + 1_000 * words.bare[1].parse::<u64>().unwrap()),
            "down" => self.feels(&words, false),
            "up" => self.feels(&words, true),
            "settings" => {
                self.settings.moves_max = words.text("moves", "8").parse().unwrap();
                self.settings.balance = if words.has("rate") { Balance::Rate } else { Balance::Count };
            }
            "rates" => {
                let one = |word: &&str| {
                    let (shard, rate) = word.split_once(':').unwrap();
                    (shard_id(shard), rate.parse().unwrap())
                };
                self.rates = words.bare[1..].iter().map(one).collect();
            }
            _ => {
                let command = command(&words);
                let outcome = self.apply(command);
                writeln!(self.said, "{}", told(&outcome)).unwrap();
            }
        }
    }

    fn apply(&mut self, kind: Kind) -> Outcome {
        self.now = UnixMs(self.now.0 + 1_000);
        let before = self.state.clone();
        let outcome = machine::apply(&mut self.state, Command { proposed_at: self.now, kind });
        invariants::check(&self.state).unwrap();
        invariants::numbers_only_grow(&before, &self.state).unwrap();
        if matches!(outcome, Outcome::Refused(_)) {
            assert_eq!(before, self.state, "a refusal changed the state");
        }
        self.late();
        outcome
    }

    fn feels(&mut self, words: &Words<'_>, is_alive: bool) {
        let stable_for = Duration::from_secs(words.number("stable", 3_600));
        self.health.insert(words.bare[1].parse().unwrap(), Health { is_alive, stable_for });
    }

    fn late(&mut self) -> BTreeMap<ShardId, Late> {
        let now = self.began + Duration::from_millis(self.now.0);
        self.handovers.late(&self.state, self.settings.handover_deadline, now)
    }

    fn planned(&mut self) -> Vec<Command> {
        let late = self.late();
        let well = Health { is_alive: true, stable_for: Duration::MAX };
        let health = |name: &NodeName| self.health.get(name).copied().unwrap_or(well);
        let nodes = self.state.members.keys().map(|name| (name.clone(), health(name))).collect();
        let inputs = Inputs { now: self.now, nodes: &nodes, rates: &self.rates, late: &late, settings: &self.settings };
        plan(&self.state, &inputs)
    }

    /// Plans, applies the plan, and makes sure that nothing is left to plan. How many shards it concerned.
    fn plan(&mut self) -> usize {
        // All at one time, as one turn of the leader.
        let (commands, mut count) = (self.planned(), 0);
        for command in commands {
            let lines: Vec<String> = match &command.kind {
                Kind::AssignShards(AssignShards { assignments }) => {
                    let one = |a: &ShardAssignment| format!("{} -> {}@{}", a.shard, a.owner.node, a.owner.generation);
                    assignments.iter().map(one).collect()
                }
                Kind::StartMoves(StartMoves { moves }) => {
                    moves.iter().map(|(shard, to)| format!("move {shard} -> {to}")).collect()
                }
                Kind::CancelMoves(CancelMoves { shards }) => shards.iter().map(|id| format!("cancel {id}")).collect(),
                other => panic!("{other:?}"),
            };
            count += lines.len();
            self.said.extend(lines.iter().map(|line| format!("{line}\n")));
            let outcome = self.apply(command.kind);
            assert!(matches!(outcome, Outcome::Assigned { .. } | Outcome::Moves { .. }), "{outcome:?}");
        }
        assert_eq!(self.planned(), [], "the plan does not settle");
        count
    }

    /// Plans and lets owners release what they are to hand over, until nothing is left to do. Says what came of it.
    fn settle(&mut self) {
        loop {
            let count = self.plan();
            let handed_over = self.state.shards.iter().filter(|(_, shard)| shard.handover.is_some());
            let released = handed_over.map(|(id, shard)| (id.clone(), shard.owner.clone().unwrap(), shard.epoch));
            let released: Vec<_> = released.collect();
            if count == 0 && released.is_empty() {
                break;
            }
            for (id, node, epoch) in released {
                let words = format!("checkpoint _ _ epoch={} session=1 state=stopped released", epoch.0);
                let checkpoints = vec![(id, checkpoint(&Words::new(&words)))];
                let outcome = self.apply(RecordCheckpoints { node, checkpoints }.into());
                assert_eq!(outcome, Outcome::Recorded { refused: Vec::new() });
            }
        }
        let has = |node: &NodeName| {
            let owners = self.state.shards.values().filter_map(|shard| shard.owner.as_ref());
            owners.filter(|owner| owner.node == *node).count()
        };
        let loads: Vec<_> = self.state.members.keys().map(|name| format!("{name}={}", has(name))).collect();
        writeln!(self.said, "settled: {}", loads.join(" ")).unwrap();
    }

    fn show(&mut self) {
        let (state, out) = (&self.state, &mut self.said);
        for (name, member) in &state.members {
            let drained = if member.was_draining { " was-draining" } else { "" };
            writeln!(out, "member {name}@{} {:?}{drained}", member.generation, member.state).unwrap();
        }
        for (name, pipeline) in &state.pipelines {
            let earlier: Vec<_> = pipeline.earlier.keys().map(|revision| revision.0).collect();
            let (revision, doing) = (pipeline.revision, pipeline.state);
            writeln!(out, "pipeline {name} r{revision} {doing:?} earlier={earlier:?}").unwrap();
        }
        for (id, shard) in &state.shards {
            let owner = shard.owner.as_ref().map_or("nobody".to_owned(), |o| format!("{}@{}", o.node, o.generation));
            let session = shard.session.as_ref().map_or("none".to_owned(), |s| format!("r{}", s.revision));
            let delivered = state.checkpoints.get(id).map_or("-".to_owned(), |c| c.ledger.delivered.to_string());
            let (epoch, since) = (shard.epoch, shard.since);
            write!(out, "shard {id} {owner} epoch={epoch} since={since} session={session} delivered={delivered}")
                .unwrap();
            if let Some(handover) = &shard.handover {
                write!(out, " to={} since={}", handover.to, handover.since).unwrap();
            }
            out.push_str(if shard.is_retiring { " retiring\n" } else { "\n" });
        }
    }
}

fn command(words: &Words<'_>) -> Kind {
    let name = words.bare.get(1).copied().unwrap_or_default();
    match words.bare[0] {
        "init" => InitCluster { cluster_id: name.parse().unwrap() }.into(),
        "register" => {
            let raft_id = RaftId(words.number("raft", name.bytes().map(u64::from).sum()));
            let (address, admin_address) = (String::new(), String::new());
            RegisterMember { name: name.parse().unwrap(), raft_id, address, admin_address }.into()
        }
        "fill" => becomes(name, MemberState::Active),
        "drain" => becomes(name, MemberState::Draining),
        "stop" => becomes(name, MemberState::Stopping),
        "remove" => RemoveMember { name: name.parse().unwrap(), force: words.has("force"), generation: None }.into(),
        "move" => {
            let one = |word: &&str| {
                let (shard, to) = word.split_once("->").unwrap();
                (shard_id(shard), to.parse().unwrap())
            };
            StartMoves { moves: words.bare[1..].iter().map(one).collect() }.into()
        }
        "cancel" => CancelMoves { shards: words.bare[1..].iter().map(|word| shard_id(word)).collect() }.into(),
        "apply" => ApplyPipeline { spec: spec(name, words) }.into(),
        "pause" => PausePipeline { name: name.parse().unwrap() }.into(),
        "resume" => ResumePipeline { name: name.parse().unwrap() }.into(),
        "delete" => DeletePipeline { name: name.parse().unwrap(), discard: words.has("discard") }.into(),
        "assign" => {
            let one = |word: &&str| {
                let (shard, owner) = word.split_once("->").unwrap();
                ShardAssignment { shard: shard_id(shard), owner: self::owner(owner) }
            };
            AssignShards { assignments: words.bare[1..].iter().map(one).collect() }.into()
        }
        "checkpoint" => {
            let checkpoints = vec![(shard_id(words.bare[2]), checkpoint(words))];
            RecordCheckpoints { node: owner(name), checkpoints }.into()
        }
        other => panic!("unknown command {other}"),
    }
}

/// Of `node`, or of `node@generation` alone.
fn becomes(words: &str, state: MemberState) -> Kind {
    let (name, generation) = words.split_once('@').map_or((words, None), |(name, at)| (name, Some(at)));
    let generation = generation.map(|at| Generation(at.parse().unwrap()));
    SetMemberState { name: name.parse().unwrap(), state, generation }.into()
}

fn spec(name: &str, words: &Words<'_>) -> PipelineSpec {
    PipelineSpec {
        name: name.parse().unwrap(),
        shards: words.text("shards", "1").parse().unwrap(),
        source: SourceIdentity {
            servers: vec![words.text("server", "mqtt://a").to_owned()],
            share_group: Some(name.to_owned()),
            client_id_prefix: name.to_owned(),
        },
        filters: words.text("filters", "x/#").split(',').map(ToOwned::to_owned).collect(),
        manifest: String::new(),
        must_keep_shards: words.has("keep"),
    }
}

fn checkpoint(words: &Words<'_>) -> Checkpoint {
    let state = match words.text("state", "running") {
        "running" => TaskState::Running,
        "stopped" => TaskState::Stopped,
        "retired" => TaskState::Retired,
        other => panic!("unknown state {other}"),
    };
    let delivered = words.number("delivered", 0);
    let session = words.number("session", 0);
    Checkpoint {
        epoch: Epoch(words.number("epoch", 0)),
        taken_at: UnixMs(0),
        ledger: Ledger { received: delivered, delivered, ..Ledger::default() },
        next_offsets: BTreeMap::new(),
        session: (session > 0).then(|| Session {
            revision: Revision(session),
            filters: vec!["x/#".to_owned()],
            is_open: true,
        }),
        status: TaskStatus { state, message: String::new() },
        released: words.has("released"),
        oldest_unacked_ms: 0,
    }
}

fn shard_id(word: &str) -> ShardId {
    let (pipeline, index) = word.split_once('/').unwrap();
    ShardId { pipeline: pipeline.parse().unwrap(), index: index.parse().unwrap() }
}

fn owner(word: &str) -> Owner {
    let (node, generation) = word.split_once('@').unwrap();
    Owner { node: node.parse().unwrap(), generation: Generation(generation.parse().unwrap()) }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Initialized => "initialized".to_owned(),
        Outcome::Registered { generation } => format!("registered in generation {generation}"),
        Outcome::Pipeline { pipeline, changed } => {
            let (revision, state) = (pipeline.revision, pipeline.state);
            format!("pipeline r{revision} {state:?}{}", if *changed { "" } else { ", unchanged" })
        }
        Outcome::Assigned { changed } => format!("assigned, {changed} changed"),
        Outcome::Member { member, changed } => {
            format!("member {:?}{}", member.state, if *changed { "" } else { ", unchanged" })
        }
        Outcome::Moves { changed } => format!("moves, {changed} changed"),
        Outcome::Recorded { refused } if refused.is_empty() => "recorded".to_owned(),
        Outcome::Recorded { refused } => refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        Outcome::Refused(refusal) => format!("refused, {:?}: {refusal}", refusal.kind),
    }
}

#[test]
fn the_machine_does_what_its_scripts_say() {
    run_all("src/machine/scripts");
}

#[test]
fn the_planner_does_what_its_scripts_say() {
    run_all("src/plan/scripts");
}
