//! The faults. Each is a function that does its harm, lets it last, ends what it alone can end, and says whether it bit.
//!
//! What is down or cut when it returns is brought back by `Stage::heal`.

mod brokers;
mod disk;
mod kills;
mod network;
mod pause;
mod planned;

use std::{collections::BTreeSet, thread, time::Duration};

use anyhow::Context as _;

use super::{kind::Kind, schedule::pick, stage::Stage};
use crate::lab::{
    cluster::{Shard, View},
    rounds::Round,
};

/// What a fault did.
#[derive(Debug)]
pub(crate) struct Hit {
    /// When it began, in milliseconds of Unix time.
    pub(crate) begun_ms: i64,
    /// The shards whose readings it held up.
    pub(crate) shards: BTreeSet<Shard>,
    pub(crate) bit: bool,
    /// Why one may say so.
    pub(crate) evidence: String,
}

/// Does a fault; `view` is what the cluster said just before.
pub(crate) fn inject(stage: &mut Stage, kind: Kind, view: &View, chance: &mut Round) -> anyhow::Result<Hit> {
    match kind {
        Kind::KillFollower => {
            let victim = victim(stage, view, chance, |name| name != view.leader)?;
            kills::kill(stage, view, chance, &[victim])
        }
        Kind::KillLeader => {
            let leader = stage.cluster.number(&view.leader)?;
            kills::kill(stage, view, chance, &[leader])
        }
        Kind::KillIdleLeader => kills::idle_leader(stage, view, chance),
        Kind::KillTwo => {
            let mut all: Vec<usize> = (0..stage.cluster.size()).collect();
            all.remove(pick(chance, all.len()));
            while all.len() > 2 {
                all.remove(pick(chance, all.len()));
            }
            kills::kill(stage, view, chance, &all)
        }
        Kind::KillAll => {
            let all: Vec<usize> = (0..stage.cluster.size()).collect();
            kills::kill(stage, view, chance, &all)
        }
        Kind::Pause => pause::pause(stage, view, chance),
        Kind::Partition => network::partition(stage, view, chance),
        Kind::PartitionOneWay => network::one_way(stage, view, chance),
        Kind::Isolate => network::isolate(stage, view, chance),
        Kind::MqttRestart | Kind::MqttKill => brokers::mqtt(stage, chance),
        Kind::KafkaKill => brokers::kafka(stage, chance),
        Kind::FullDisk => disk::full(stage, view, chance),
        Kind::Drain => planned::drain(stage, view, chance),
        Kind::Rolling => planned::rolling(stage, view, chance),
    }
}

/// A node by chance that owns shards and may be chosen.
fn victim(stage: &Stage, view: &View, chance: &mut Round, may: impl Fn(&str) -> bool) -> anyhow::Result<usize> {
    let nodes = stage.cluster.nodes().iter().enumerate();
    let candidates: Vec<usize> = nodes
        .filter(|(_, node)| may(node.name()) && !view.shards_of(node.name()).is_empty())
        .map(|(number, _)| number)
        .collect();
    anyhow::ensure!(!candidates.is_empty(), "no node to choose: {view:?}");
    candidates.get(pick(chance, candidates.len())).copied().context("one was picked")
}

/// The shards of these nodes.
fn shards_of(stage: &Stage, view: &View, nodes: &[usize]) -> BTreeSet<Shard> {
    nodes.iter().flat_map(|&number| view.shards_of(stage.cluster.nodes()[number].name())).collect()
}

/// How many of these shards have another owner than they had.
fn moved(before: &View, after: &View, shards: &BTreeSet<Shard>) -> usize {
    let owner = |view: &View, shard| view.shards.get(shard).map(|owner| owner.node.clone());
    shards.iter().filter(|shard| owner(before, shard) != owner(after, shard)).count()
}

fn name(stage: &Stage, number: usize) -> String {
    stage.cluster.nodes()[number].name().to_owned()
}

fn names(stage: &Stage, numbers: &[usize]) -> String {
    numbers.iter().map(|&number| name(stage, number)).collect::<Vec<_>>().join(" and ")
}

/// Lets a fault last: a time by chance between these, in milliseconds.
fn last(chance: &mut Round, from_ms: u64, to_ms: u64) -> Duration {
    let time = Duration::from_millis(from_ms + chance.below(to_ms - from_ms));
    thread::sleep(time);
    time
}
