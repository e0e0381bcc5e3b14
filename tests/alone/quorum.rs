//! Most voters are gone: nothing can be changed, and what runs goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use sluice_tests::{
    cluster::{Cluster, Setup},
    device::Device,
    eventually,
    kafka::Kafka,
    mosquitto::{self, Mosquitto},
    pipeline::Pipeline,
    topic::{Record, Topic},
};

use crate::alone;

/// Pipelines of one shard, each with a filter of its own, so that one sees whose readings stop.
const CELLS: usize = 6;
const WELL: Duration = Duration::from_secs(90);
/// Between two readings of a cell.
const BEAT: Duration = Duration::from_millis(20);
/// Below a lease (2 s), far above what a reading takes on a busy machine.
const SOON_MS: i64 = 1_500;
/// Three leases after the survivor's own has run out.
const OUTAGE: Duration = Duration::from_secs(6);

#[test]
fn without_a_quorum_the_survivor_delivers_on_and_what_was_killed_resumes_when_it_returns() -> anyhow::Result<()> {
    let _alone = alone();
    let mqtt = Mosquitto::start(&mosquitto::Setup::default())?;
    let kafka = Kafka::shared()?;
    let topic = Topic::create(&kafka, "quorum", 1, &[("message.timestamp.type", "LogAppendTime")])?;
    let mut cluster = Cluster::prepare(Setup { nodes: 3, ..Setup::default() })?;
    cluster.start()?;
    for cell in 0..CELLS {
        let mut pipeline = Pipeline::new(&format!("cell-{cell}"), &mqtt.url(), &kafka, &topic.name);
        pipeline.filters = vec![format!("cell-{cell}")];
        eventually("the pipeline is applied", || Ok(cluster.admin()?.apply(&pipeline.yaml())?))?;
    }
    let view = cluster.wait_well(CELLS, WELL)?;
    let survivor = (0..3).find(|&number| cluster.nodes()[number].name() != view.leader).context("a follower")?;
    let of_survivor: BTreeSet<_> =
        view.shards_of(cluster.nodes()[survivor].name()).into_iter().map(|(cell, _)| cell).collect();
    ensure!(!of_survivor.is_empty() && of_survivor.len() < CELLS, "{view:?}");
    let heart = Heart::start(mqtt.port)?;
    eventually("readings flow", || {
        let seen: BTreeSet<_> = topic.read_all()?.into_iter().map(|record| record.key).collect();
        ensure!(seen.len() == CELLS, "of {} cells", seen.len());
        Ok(())
    })?;

    let killed: Vec<usize> = (0..3).filter(|&number| number != survivor).collect();
    let from = now_ms();
    for &number in &killed {
        cluster.set_out(number, true);
        cluster.node(number).kill()?;
    }
    eventually("the survivor has no lease any more", || {
        let why_not = cluster.nodes()[survivor].why_not_ready()?;
        ensure!(!why_not.is_empty(), "it is ready");
        Ok(())
    })?;
    thread::sleep(OUTAGE);
    let another = Pipeline::new("another", &mqtt.url(), &kafka, &topic.name);
    ensure!(cluster.admin()?.apply(&another.yaml()).is_err(), "a change was accepted without a quorum");
    let to = now_ms();
    for &number in &killed {
        cluster.node(number).start_process()?;
    }
    for &number in &killed {
        cluster.node(number).wait_ready()?;
        cluster.set_out(number, false);
    }
    cluster.wait_well(CELLS, WELL)?;

    let beats = heart.stop()?;
    let arrivals = eventually("all is there", || {
        let arrivals = arrivals(topic.read_all()?)?;
        let missing = beats.iter().filter(|beat| !arrivals.contains_key(*beat)).count();
        ensure!(missing == 0, "{missing} of {} readings are missing", beats.len());
        Ok(arrivals)
    })?;
    // How long a reading of each cell took at worst, from the kill on, the return of the quorum included.
    let mut waits: BTreeMap<&str, i64> = BTreeMap::new();
    for ((cell, sent), stored) in arrivals.iter().filter(|((_, sent), _)| *sent >= from) {
        let wait = waits.entry(cell).or_default();
        *wait = (*wait).max(stored - sent);
    }
    eprintln!("{} ms without a quorum; waits: {waits:?}; the survivor's: {of_survivor:?}", to - from);
    ensure!(waits.len() == CELLS, "{waits:?}");
    for (cell, wait) in waits {
        if of_survivor.contains(cell) {
            ensure!(wait < SOON_MS, "{cell} is the survivor's, and waited {wait} ms");
        } else {
            ensure!(wait > to - from - SOON_MS, "{cell} was carried by nobody, and waited only {wait} ms");
        }
    }
    Ok(())
}

/// A reading: its cell and when it was sent.
type Beat = (String, i64);

/// When each was first stored.
fn arrivals(records: Vec<Record>) -> anyhow::Result<BTreeMap<Beat, i64>> {
    let mut arrivals = BTreeMap::new();
    for record in records {
        let beat = (String::from_utf8(record.key)?, String::from_utf8(record.payload)?.parse()?);
        arrivals.entry(beat).or_insert(record.timestamp_ms);
    }
    Ok(arrivals)
}

/// One reading a beat to each cell.
struct Heart {
    is_stopped: Arc<AtomicBool>,
    thread: thread::JoinHandle<anyhow::Result<BTreeSet<Beat>>>,
}

impl Heart {
    fn start(port: u16) -> anyhow::Result<Self> {
        let mut device = Device::connect(port)?;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let beat = move || {
            let mut beats = BTreeSet::new();
            while !stopped.load(Relaxed) {
                for cell in 0..CELLS {
                    let beat = (format!("cell-{cell}"), now_ms());
                    device.publish(&beat.0, 1, beat.1.to_string().as_bytes())?;
                    beats.insert(beat);
                }
                thread::sleep(BEAT);
            }
            Ok(beats)
        };
        Ok(Self { is_stopped, thread: thread::spawn(beat) })
    }

    /// All that the broker has acknowledged.
    fn stop(self) -> anyhow::Result<BTreeSet<Beat>> {
        self.is_stopped.store(true, Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the heart panicked"))?
    }
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
