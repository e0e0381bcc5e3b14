//! Any sequence of commands keeps the invariants, comes out the same on two voters, and survives being stored.
//!
//! Commands are drawn as numbers and made against the state they meet, so that most of them mean something.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection::vec, prelude::*};
use prost::Message as _;
use sluice_proto::state::v1 as pb;

use super::{
    ApplyPipeline, AssignShards, CancelMoves, Command, DeletePipeline, InitCluster, Kind, Outcome, PausePipeline,
    RecordCheckpoints, RegisterMember, RemoveMember, ResumePipeline, SetMemberState, ShardAssignment, StartMoves,
    apply, invariants,
};
use crate::{
    model::{
        Checkpoint, Epoch, Generation, Ledger, MemberState, NodeName, Offset, Owner, PipelineName, PipelineSpec,
        RaftId, Revision, Session, Shard, ShardId, SourceIdentity, State, TaskState, TaskStatus, TopicPartition,
        UnixMs,
    },
    plan::{Balance, Health, Inputs, Late, Settings, plan},
};

/// What to do, to whom, and two numbers more.
pub(crate) type Draw = (u8, u8, u8, u8);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn invariants_hold_and_voters_agree(draws in vec(any::<Draw>(), 0..80), stored_at in 0..80_usize, world in any::<Draw>()) {
        let (mut here, mut there) = (State::default(), State::default());
        for (at, draw) in draws.into_iter().enumerate() {
            let command = Command { proposed_at: UnixMs(at as u64), kind: kind(&here, draw) };
            let sent = pb::Command::from(&command).encode_to_vec();
            let received = Command::try_from(pb::Command::decode(sent.as_slice())?)?;
            prop_assert_eq!(&received, &command);
            if at == stored_at {
                there = State::try_from(pb::State::decode(bytes(&there).as_slice())?)?;
            }
            let before = here.clone();
            let outcome = apply(&mut here, command);
            prop_assert_eq!(&outcome, &apply(&mut there, received));
            prop_assert_eq!(bytes(&here), bytes(&there));
            invariants::check(&here)?;
            invariants::numbers_only_grow(&before, &here)?;
            if matches!(outcome, Outcome::Refused(_)) {
                prop_assert_eq!(before, here.clone(), "a refusal changed the state");
            }
        }
        settles(here, world)?;
    }
}

/// The planner's commands are all accepted, and then it has nothing more to say. Whoever lives, whatever flows.
fn settles(mut state: State, (alive, stable, moves_max, late): Draw) -> Result<(), TestCaseError> {
    let health = |at: usize| Health {
        is_alive: alive & (1 << at) != 0,
        stable_for: Duration::from_secs(if stable & (1 << at) == 0 { 1 } else { 10 }),
    };
    let nodes = state.members.keys().enumerate().map(|(at, name)| (name.clone(), health(at))).collect();
    let rates = state.shards.keys().map(|id| (id.clone(), f64::from(id.index * 200))).collect();
    let balance = if alive.is_multiple_of(2) { Balance::Rate } else { Balance::Count };
    let settings = Settings { moves_max: usize::from(moves_max % 4), balance, ..Settings::default() };
    let all_late = state.shards.keys().filter_map(|id| Some((id.clone(), Late::of(&state, id)?)));
    let late = if late.is_multiple_of(2) { BTreeMap::new() } else { all_late.collect() };
    let inputs = Inputs { now: UnixMs(100), nodes: &nodes, rates: &rates, late: &late, settings: &settings };
    for command in plan(&state, &inputs) {
        let before = state.clone();
        let outcome = apply(&mut state, command);
        prop_assert!(matches!(outcome, Outcome::Assigned { .. } | Outcome::Moves { .. }), "{outcome:?}");
        invariants::check(&state)?;
        invariants::numbers_only_grow(&before, &state)?;
    }
    prop_assert_eq!(plan(&state, &inputs), vec![]);
    Ok(())
}

fn bytes(state: &State) -> Vec<u8> {
    pb::State::from(state).encode_to_vec()
}

pub(crate) fn kind(state: &State, (what, who, a, b): Draw) -> Kind {
    let name = pipeline(who);
    match what % 20 {
        0 => InitCluster { cluster_id: "c1".parse().unwrap() }.into(),
        1 | 2 => RegisterMember {
            name: node(who),
            raft_id: RaftId(u64::from(who % 3 + a % 4)),
            address: String::new(),
            admin_address: format!("{a}"),
        }
        .into(),
        3 | 4 => ApplyPipeline { spec: spec(name, a, b) }.into(),
        5 => PausePipeline { name }.into(),
        6 => ResumePipeline { name }.into(),
        7 => DeletePipeline { name, discard: a.is_multiple_of(3) }.into(),
        8 | 9 => AssignShards { assignments: assignments(state, who, a) }.into(),
        10 => {
            let states = [MemberState::Active, MemberState::Draining, MemberState::Stopping, MemberState::Gone];
            let generation = Some(Generation(u64::from(b % 4))).filter(|generation| generation.0 > 0);
            SetMemberState { name: node(who), state: states[usize::from(a % 4)], generation }.into()
        }
        11 => {
            let generation = Some(Generation(u64::from(b % 4))).filter(|generation| generation.0 > 0);
            RemoveMember { name: node(who), force: a.is_multiple_of(2), generation }.into()
        }
        12..15 => StartMoves { moves: some_shards(state, a).map(|shard| (shard, node(who))).collect() }.into(),
        15 => CancelMoves { shards: some_shards(state, a).collect() }.into(),
        _ => checkpoints(state, who, a, b),
    }
}

fn node(who: u8) -> NodeName {
    format!("n{}", who % 3).parse().unwrap()
}

fn some_shards(state: &State, a: u8) -> impl Iterator<Item = ShardId> {
    state.shards.keys().skip(usize::from(a % 4)).take(2).cloned()
}

fn pipeline(who: u8) -> PipelineName {
    ["readings", "alarms"][usize::from(who % 2)].parse().unwrap()
}

fn spec(name: PipelineName, a: u8, b: u8) -> PipelineSpec {
    let source = SourceIdentity {
        servers: vec![format!("mqtt://{}", b % 3)],
        share_group: None,
        client_id_prefix: "x".to_owned(),
    };
    let shards = u32::from(a % 4 + 1).try_into().unwrap();
    PipelineSpec {
        name,
        shards,
        source,
        filters: vec!["x/#".to_owned()],
        manifest: String::new(),
        must_keep_shards: b.is_multiple_of(4),
    }
}

/// Mostly of what there is, to whom there is.
fn assignments(state: &State, who: u8, a: u8) -> Vec<ShardAssignment> {
    let members = state.members.iter().map(|(node, m)| Owner { node: node.clone(), generation: m.generation });
    let Some(owner) = members.cycle().nth(usize::from(who % 8)) else { return Vec::new() };
    some_shards(state, a).map(|shard| ShardAssignment { shard, owner: owner.clone() }).collect()
}

/// Mostly of an owner about its shard, now and then a stale one.
fn checkpoints(state: &State, who: u8, a: u8, b: u8) -> Kind {
    let owned = state.shards.iter().filter_map(|(id, shard)| Some((id, shard, shard.owner.clone()?)));
    let Some((id, shard, mut node)) = owned.cycle().nth(usize::from(who % 8)) else {
        let node = Owner { node: "n0".parse().unwrap(), generation: Generation(1) };
        return RecordCheckpoints { node, checkpoints: Vec::new() }.into();
    };
    if who > 240 {
        node.generation = Generation(node.generation.0 - 1);
    }
    let checkpoints = vec![(id.clone(), checkpoint(state, id, shard, a, b))];
    RecordCheckpoints { node, checkpoints }.into()
}

fn checkpoint(state: &State, id: &ShardId, shard: &Shard, a: u8, b: u8) -> Checkpoint {
    let newest = state.pipelines[&id.pipeline].revision.0;
    let revision = Revision(newest.saturating_sub(u64::from(b % 3)).max(1));
    let session = (!a.is_multiple_of(3)).then(|| Session { revision, filters: vec![format!("{b}/#")], is_open: true });
    let at = TopicPartition { topic: "t".to_owned(), partition: i32::from(b % 4) };
    Checkpoint {
        epoch: Epoch(shard.epoch.0 - u64::from(b > 240)),
        taken_at: UnixMs(u64::from(a)),
        ledger: Ledger { received: u64::from(a), delivered: u64::from(b), ..Ledger::default() },
        next_offsets: [(at, Offset(i64::from(a)))].into(),
        session,
        status: TaskStatus {
            state: if b.is_multiple_of(2) { TaskState::Retired } else { TaskState::Running },
            message: String::new(),
        },
        released: a.is_multiple_of(4),
        oldest_unacked_ms: 0,
    }
}
