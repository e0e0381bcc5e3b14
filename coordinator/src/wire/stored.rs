//! What version 2 writes into the log and into a snapshot is read for ever: each command with every field set, and a state that
//! they lead to. Version 1 is in `raft/tests`. `SLUICE_BLESS=1` writes fixtures that are not there yet, and never another.

use std::{fs, path::PathBuf};

use prost::Message as _;
use sluice_proto::state::v1 as pb;

use crate::{
    machine::{
        ApplyPipeline, AssignShards, CancelMoves, Command, InitCluster, Kind, Outcome, RegisterMember, RemoveMember,
        SetMemberState, ShardAssignment, StartMoves, apply,
    },
    model::{
        Generation, Handover, MemberState, NodeName, Owner, PipelineSpec, RaftId, ShardId, SourceIdentity, State,
        UnixMs,
    },
};

/// The bytes of version 2 under this name.
fn fixture(name: &str, now: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/v2").join(name);
    if std::env::var_os("SLUICE_BLESS").is_some() && !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, now).unwrap();
    }
    fs::read(path).unwrap()
}

#[test]
fn commands_of_version_2_are_read() {
    for (at, command) in commands().into_iter().enumerate() {
        let name = format!("command-{at:02}.bin");
        let stored = fixture(&name, &pb::Command::from(&command).encode_to_vec());
        assert_eq!(Command::try_from(pb::Command::decode(stored.as_slice()).unwrap()).unwrap(), command, "{name}");
    }
}

#[test]
fn a_state_of_version_2_is_read() {
    let mut state = State::default();
    for command in commands() {
        let outcome = apply(&mut state, command);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    let stored = fixture("state.bin", &pb::State::from(&state).encode_to_vec());
    assert_eq!(State::try_from(pb::State::decode(stored.as_slice()).unwrap()).unwrap(), state);
    // The fixture has in it what version 1 had not.
    let members: Vec<_> = state.members.values().map(|member| (member.state, member.was_draining)).collect();
    let (active, stopping, gone) = (MemberState::Active, MemberState::Stopping, MemberState::Gone);
    assert_eq!(members, [(active, false), (stopping, true), (gone, false)]);
    assert_eq!(state.removed, [RaftId(12)].into());
    let shard = &state.shards[&shard(1)];
    assert_eq!(shard.handover, Some(Handover { to: node("n-0"), since: UnixMs(1_010) }));
    assert!(shard.is_retiring);
}

/// Each kind that version 2 brought or changed, with every field set; all are accepted one after the other.
fn commands() -> Vec<Command> {
    let owner = Owner { node: node("n-1"), generation: Generation(1) };
    let assignments = vec![ShardAssignment { shard: shard(1), owner }];
    let kinds: Vec<Kind> = vec![
        InitCluster { cluster_id: "0123456789abcdef".parse().unwrap() }.into(),
        register("n-0", 10),
        register("n-1", 11),
        register("n-2", 12),
        ApplyPipeline { spec: spec(2) }.into(),
        AssignShards { assignments }.into(),
        StartMoves { moves: vec![(shard(1), node("n-2"))] }.into(),
        CancelMoves { shards: vec![shard(1)] }.into(),
        SetMemberState { name: node("n-1"), state: MemberState::Draining, generation: None }.into(),
        SetMemberState { name: node("n-1"), state: MemberState::Stopping, generation: None }.into(),
        StartMoves { moves: vec![(shard(1), node("n-0"))] }.into(),
        RemoveMember { name: node("n-2"), force: true, generation: None }.into(),
        ApplyPipeline { spec: spec(1) }.into(),
        SetMemberState { name: node("n-1"), state: MemberState::Stopping, generation: Some(Generation(1)) }.into(),
    ];
    (1_000..).zip(kinds).map(|(at, kind)| Command { proposed_at: UnixMs(at), kind }).collect()
}

fn register(name: &str, raft_id: u64) -> Kind {
    let (address, admin_address) = (format!("{name}:7070"), format!("{name}:7080"));
    RegisterMember { name: node(name), raft_id: RaftId(raft_id), address, admin_address }.into()
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn shard(index: u32) -> ShardId {
    ShardId { pipeline: "readings".parse().unwrap(), index }
}

fn spec(shards: u32) -> PipelineSpec {
    PipelineSpec {
        name: "readings".parse().unwrap(),
        shards: shards.try_into().unwrap(),
        source: SourceIdentity {
            servers: vec!["mqtt://a:1883".to_owned()],
            share_group: Some("sluice".to_owned()),
            client_id_prefix: "sluice-readings".to_owned(),
        },
        filters: vec!["x/#".to_owned()],
        manifest: "name: readings\n".to_owned(),
        must_keep_shards: false,
    }
}
