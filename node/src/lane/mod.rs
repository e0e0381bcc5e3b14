//! A lane: one thread that carries the readings of many shards.
//!
//! The thread runs a single-threaded runtime. Per shard there is one driver, which waits for its socket; per lane there is
//! one reader of delivery reports. The path of a reading takes no channel, lock, allocation of its own or system call:
//! a read of a socket is decoded, mapped, grouped by partition and handed to librdkafka as batches; a round of reports moves
//! watermarks, and each session that may acknowledge something writes once.
//!
//! Others see [`Lane`]: give it a job, learn of its end.

mod core;
mod driver;
mod failures;
mod headers;
mod job;
mod limits;
mod routes;
mod setup;
mod shard;
mod slots;
mod turn;

use std::{
    cell::Cell,
    io,
    os::unix::net::UnixStream as StdStream,
    rc::Rc,
    sync::mpsc as std_mpsc,
    thread,
    time::{Duration, Instant},
};

use sluice_coordinator::model::{Epoch, ShardId};
use tokio::{
    net::UnixStream,
    runtime::Builder,
    sync::mpsc,
    task::{JoinSet, LocalSet, yield_now},
    time::{MissedTickBehavior, interval},
};

use self::core::{Core, Query};
pub(crate) use self::job::{End, Job, Purpose, Stop};
use crate::{config::InFlight, pipeline::sink::TopicNo};

/// How often ages, offsets and states are shown.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// How often the partition counts of known topics are asked for again: as often as an operator may be waiting for a new
/// partition to be used.
const PARTITIONS_EVERY: u32 = 60;

/// How long one question for a partition count may take.
const QUERY_TIMEOUT_MS: u64 = 2_000;

/// A running lane.
#[derive(Debug)]
pub(crate) struct Lane {
    jobs: mpsc::UnboundedSender<Job>,
    thread: thread::JoinHandle<()>,
}

/// A job has come to its end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) shard: ShardId,
    pub(crate) epoch: Epoch,
    pub(crate) end: End,
}

type Answer = (u64, TopicNo, Option<i32>);

impl Lane {
    /// Starts the lane's thread. Each job's end is told through `ended`.
    pub(crate) fn start(number: usize, limits: InFlight, ended: mpsc::UnboundedSender<Ended>) -> io::Result<Self> {
        // Bounded by the number of tasks, which the coordinator bounds.
        let (jobs, inbox) = mpsc::unbounded_channel();
        let (ring, bell) = StdStream::pair()?;
        ring.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
            let local = LocalSet::new();
            if let Err(error) = local.block_on(&runtime, run(limits, inbox, ended, ring, bell)) {
                panic!("lane {number} cannot go on, and its shards with it: {error}");
            }
        })?;
        Ok(Self { jobs, thread })
    }

    /// Gives the lane a job; `false`: the lane has stopped.
    pub(crate) fn give(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }

    /// Waits until all jobs have ended, which must have been told to stop, and ends the thread.
    pub(crate) fn join(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            tracing::error!("a lane panicked");
        }
    }
}

async fn run(
    limits: InFlight,
    mut inbox: mpsc::UnboundedReceiver<Job>,
    ended: mpsc::UnboundedSender<Ended>,
    ring: StdStream,
    bell: StdStream,
) -> io::Result<()> {
    let ring = UnixStream::from_std(ring)?;
    // Both channels are bounded by the topics of a round; a new round begins when the last is answered.
    let (queries, asked) = std_mpsc::channel();
    let (answers, mut answered) = mpsc::unbounded_channel::<Answer>();
    let asker = thread::Builder::new().name("partitions".to_owned()).spawn(move || ask(&asked, &answers))?;
    let core = Rc::new(Core::new(limits, bell, queries));
    let mut jobs = JoinSet::new();
    let mut ticks = interval(SHOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let round = Cell::new(0_u32);
    let mut is_open = true;
    while is_open || !jobs.is_empty() {
        tokio::select! {
            rung = ring.readable() => {
                rung?;
                silence(&ring)?;
                while !core.take_reports() {
                    yield_now().await;
                }
            }
            job = inbox.recv(), if is_open => match job {
                Some(job) => {
                    let (core, ended) = (Rc::clone(&core), ended.clone());
                    jobs.spawn_local(async move {
                        let (shard, epoch) = (job.task.shard.clone(), job.task.epoch);
                        let end = driver::run(core, job).await;
                        // Nobody listens only when the node has given up on this lane.
                        drop(ended.send(Ended { shard, epoch, end }));
                    });
                }
                None => is_open = false,
            },
            Some(_) = jobs.join_next(), if !jobs.is_empty() => {}
            Some((place, topic, count)) = answered.recv() => core.answer(place, topic, count),
            _ = ticks.tick() => {
                while !core.take_reports() {
                    yield_now().await;
                }
                core.show(Instant::now());
                core.ask(!round.get().is_multiple_of(PARTITIONS_EVERY));
                round.set(round.get().wrapping_add(1));
            }
        }
    }
    drop((core, answered));
    // It ends with the channel that the core held; only a question under way is waited for.
    tokio::task::spawn_blocking(move || asker.join())
        .await
        .map_err(io::Error::other)?
        .map_err(|_| io::Error::other("partitions"))
}

/// Empties the bell before the events are taken, so that a ring for a later event is not lost.
fn silence(ring: &UnixStream) -> io::Result<()> {
    let mut bytes = [0; 64];
    loop {
        match ring.try_read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn ask(asked: &std_mpsc::Receiver<Query>, answers: &mpsc::UnboundedSender<Answer>) {
    while let Ok(Query { place, query }) = asked.recv() {
        if answers.is_closed() {
            return;
        }
        let (topic, count) = query.ask(QUERY_TIMEOUT_MS);
        if answers.send((place, topic, count)).is_err() {
            return;
        }
    }
}
