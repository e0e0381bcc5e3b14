//! Every stored format of every released version is read. A change that breaks these breaks upgrades: add a version, keep the
//! fixture. `SLUICE_BLESS=1` writes fixtures that are not there yet, and never another.

use std::{collections::BTreeMap, fs, path::PathBuf};

use openraft::{EntryPayload, impls::leader_id_adv::LeaderId};

use crate::{
    machine::{
        ApplyPipeline, AssignShards, Command, DeletePipeline, InitCluster, Kind, PausePipeline, RecordCheckpoints,
        RegisterMember, ResumePipeline, ShardAssignment, apply,
    },
    model::{
        Checkpoint, Epoch, Generation, Ledger, Offset, Owner, PipelineSpec, RaftId, Revision, Session, ShardId,
        SourceIdentity, State, TaskState, TaskStatus, TopicPartition, UnixMs,
    },
    raft::{
        codec::{decode_entry, decode_snapshot, decode_vote, encode_entry, encode_snapshot, encode_vote},
        snapshots::Snapshots,
        types::{Entry, LogId, Membership, RaftNode, SnapshotMeta, StoredMembership, Vote},
    },
};

const LEADER: LeaderId<u64, u64> = LeaderId { term: 3, node_id: 9 };

/// The bytes of version 1 under this name.
fn fixture(name: &str, now: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1").join(name);
    if std::env::var_os("SLUICE_BLESS").is_some() && !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, now).unwrap();
    }
    fs::read(path).unwrap()
}

#[test]
fn log_entries_of_version_1_are_read() {
    let payloads = [EntryPayload::Blank, EntryPayload::Membership(membership())];
    let payloads = payloads.into_iter().chain(commands().into_iter().map(EntryPayload::Normal));
    for (index, payload) in (7_u64..).zip(payloads) {
        let entry = Entry { log_id: LogId { leader_id: LEADER, index }, payload };
        let stored = fixture(&format!("entry-{index:02}.bin"), &encode_entry(&entry));
        assert_eq!(decode_entry(&stored).unwrap(), entry);
    }
    let vote = Vote { leader_id: LEADER, committed: true };
    assert_eq!(decode_vote(&fixture("vote.bin", &encode_vote(&vote))).unwrap(), vote);
}

#[test]
fn a_snapshot_of_version_1_is_read() {
    let mut state = State::default();
    for command in commands().into_iter().take(6) {
        apply(&mut state, command);
    }
    let last = Some(LogId { leader_id: LEADER, index: 12 });
    let meta = SnapshotMeta { last_log_id: last, last_membership: StoredMembership::new(last, membership()) };

    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path().join("snapshots")).unwrap();
    snapshots.keep(12, &encode_snapshot(&meta, &state)).unwrap();
    let path = dir.path().join("snapshots/00000000000000000012.snapshot");
    fs::write(&path, fixture("00000000000000000012.snapshot", &fs::read(&path).unwrap())).unwrap();

    assert_eq!(decode_snapshot(&snapshots.newest().unwrap().unwrap()).unwrap(), (meta, state));
}

fn membership() -> Membership {
    let node = |name: &str| RaftNode { name: name.to_owned(), address: format!("{name}:7070") };
    Membership::new(
        vec![[9].into(), [9, 10].into()],
        BTreeMap::from([(9, node("n1")), (10, node("n2")), (11, node("n3"))]),
    )
    .unwrap()
}

/// One of each, with every field set; the first six are accepted one after the other.
fn commands() -> Vec<Command> {
    let name = || "readings".parse().unwrap();
    let owner = Owner { node: "n1".parse().unwrap(), generation: Generation(1) };
    let shard = ShardId { pipeline: name(), index: 1 };
    let kinds: Vec<Kind> = vec![
        InitCluster { cluster_id: "0123456789abcdef".parse().unwrap() }.into(),
        RegisterMember {
            name: "n1".parse().unwrap(),
            raft_id: RaftId(9),
            address: "n1:7070".to_owned(),
            admin_address: String::new(),
        }
        .into(),
        ApplyPipeline { spec: spec("mqtt://a:1883") }.into(),
        AssignShards { assignments: vec![ShardAssignment { shard: shard.clone(), owner: owner.clone() }] }.into(),
        ApplyPipeline { spec: spec("mqtts://b:8883") }.into(),
        RecordCheckpoints { node: owner, checkpoints: vec![(shard, checkpoint())] }.into(),
        PausePipeline { name: name() }.into(),
        ResumePipeline { name: name() }.into(),
        DeletePipeline { name: name(), discard: true }.into(),
    ];
    (1_000..).zip(kinds).map(|(at, kind)| Command { proposed_at: UnixMs(at), kind }).collect()
}

fn spec(server: &str) -> PipelineSpec {
    PipelineSpec {
        name: "readings".parse().unwrap(),
        shards: 2.try_into().unwrap(),
        source: SourceIdentity {
            servers: vec![server.to_owned()],
            share_group: Some("sluice".to_owned()),
            client_id_prefix: "sluice-readings".to_owned(),
        },
        filters: vec!["factory/+/reading".to_owned(), "x/#".to_owned()],
        manifest: "name: readings\n".to_owned(),
        must_keep_shards: false,
    }
}

fn checkpoint() -> Checkpoint {
    let at = |partition| TopicPartition { topic: "t".to_owned(), partition };
    Checkpoint {
        epoch: Epoch(1),
        taken_at: UnixMs(999),
        ledger: Ledger {
            received: 21,
            delivered: 10,
            filtered: 1,
            dead_lettered: 2,
            returned: 3,
            in_flight: 5,
            acked: 12,
            redelivered: 4,
            sessions_lost: 6,
        },
        next_offsets: BTreeMap::from([(at(0), Offset(5)), (at(1), Offset(7))]),
        session: Some(Session { revision: Revision(1), filters: vec!["x/#".to_owned()], is_open: false }),
        status: TaskStatus { state: TaskState::BackPressure, message: "kafka is away".to_owned() },
        released: true,
        oldest_unacked_ms: 250,
    }
}
