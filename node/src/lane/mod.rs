//! A lane: one thread that carries the readings of many shards.
//!
//! The thread runs a single-threaded runtime. Per shard there is one driver, which waits for its socket; per lane there is
//! one reader of delivery reports. The path of a reading takes no channel, lock or system call of its own, and no allocation
//! unless it has MQTT 5 properties to keep or a header of its own: a read of a socket is decoded, mapped, grouped by partition
//! and handed to librdkafka as batches; a round of reports moves watermarks, and each session that may acknowledge something
//! writes once.
//!
//! Others see [`Lane`]: give it a job, learn of its end.

mod core;
pub mod course;
mod driver;
mod errands;
mod failures;
mod goodbye;
mod headers;
mod job;
mod limits;
pub mod recorded;
mod routes;
mod setup;
mod shard;
mod slots;
#[cfg(test)]
mod tests;
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
    time::{MissedTickBehavior, interval, sleep},
};

use self::core::Core;
pub(crate) use self::{
    course::{End, Purpose, Stop},
    job::Job,
};
use crate::{config::InFlight, pipeline::sink::TopicNo};

/// How often ages, offsets and states are shown.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// How often the partition counts of known topics are asked for again: as often as an operator may be waiting for a new
/// partition to be used.
const PARTITIONS_EVERY: u32 = 60;

/// Kafka answers for each partition by itself, and what has come within this time (up to twice as long, as timers go) is taken together:
/// many small windows would else cost a write to a socket for every few acks. Answers after a pause are taken at once.
const REPORTS_EVERY: Duration = Duration::from_millis(1);

/// How long one question for a partition count may take.
const QUERY_WITHIN: Duration = Duration::from_secs(2);

/// How long lanes whose tasks have ended may take to end their producers: more means that librdkafka waits for somebody, and there is
/// nothing in flight that could be lost by leaving.
const JOIN_WITHIN: Duration = Duration::from_secs(5);

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

/// A place's number, the topic asked for, its partitions if they are known.
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

    /// Waits until all jobs of `lanes` have ended, which must have been told to stop, and ends the threads. Does not wait for ever.
    pub(crate) fn join_all(lanes: Vec<Self>) {
        let deadline = Instant::now() + JOIN_WITHIN;
        // No jobs come any more, to any of them.
        let threads: Vec<_> = lanes.into_iter().map(|lane| lane.thread).collect();
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(10));
            }
            if !thread.is_finished() {
                tracing::warn!("a lane does not end in time and is left behind");
            } else if thread.join().is_err() {
                tracing::error!("a lane panicked");
            }
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
    // Both channels are bounded by the topics of a round, and the producers; a new round begins when the last is answered.
    let (errands, asked) = std_mpsc::channel();
    let (answers, mut answered) = mpsc::unbounded_channel::<Answer>();
    let errand_thread = thread::Builder::new().name("errands".to_owned());
    let errand_thread = errand_thread.spawn(move || errands::run(&asked, &answers, QUERY_WITHIN))?;
    let core = Rc::new(Core::new(limits, bell, errands));
    let mut jobs = JoinSet::new();
    let mut ticks = interval(SHOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let round = Cell::new(0_u32);
    let mut is_open = true;
    let mut taken_at = Instant::now();
    while is_open || !jobs.is_empty() {
        tokio::select! {
            rung = ring.readable() => {
                rung?;
                if let Some(left) = REPORTS_EVERY.checked_sub(taken_at.elapsed()) {
                    sleep(left).await;
                }
                silence(&ring)?;
                while !core.take_reports() {
                    yield_now().await;
                }
                taken_at = Instant::now();
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
                core.rouse(Instant::now());
                core.ask(!round.get().is_multiple_of(PARTITIONS_EVERY));
                round.set(round.get().wrapping_add(1));
            }
        }
    }
    drop(answered);
    // Every job has ended, and with it its hold on the core.
    let core = Rc::into_inner(core).ok_or_else(|| io::Error::other("a task outlives its lane"))?;
    // A question under way holds a producer, and a producer rings the bell: the number of a descriptor closed too early is
    // soon another file's.
    let bell = core.close();
    let ended = tokio::task::spawn_blocking(move || errand_thread.join()).await.map_err(io::Error::other)?;
    drop(bell);
    ended.map_err(|_| io::Error::other("the thread for errands"))
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
