//! The course of a demo: from the first subscription to the last arrival.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;
use tokio::time::{interval, timeout};

use super::{
    Args,
    broker::Broker,
    interrupt::Interrupt,
    kafka::Kafka,
    progress::{Progress, Wish},
    sensors::{self, Sensors},
    snapshot::Snapshot,
    tally::Tally,
    witness::Witness,
};
use crate::app::Node;

/// How long the node may take to connect all its shards.
const SUBSCRIBE_DEADLINE: Duration = Duration::from_secs(20);
/// How long nothing may arrive before what is missing counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often progress is shown.
const TURN: Duration = Duration::from_millis(100);

/// Runs it. What is left to do is stop the node and read Kafka to its end.
pub(super) async fn run(
    args: &Args,
    broker: &Broker,
    kafka: &Kafka,
    node: &Node,
    interrupt: &mut Interrupt,
) -> anyhow::Result<(Arc<Mutex<Tally>>, Witness)> {
    subscribed(args.shards, broker, node, interrupt).await?;
    let start = Instant::now();
    let tally = Arc::new(Mutex::new(Tally::new(args.devices)?));
    let witness = Witness::start(&kafka.bootstrap_servers(), Arc::clone(&tally), start).await?;
    let sensors = sensors::Config {
        broker: broker.address(),
        devices: args.devices,
        rate: args.rate,
        tally: Arc::clone(&tally),
        start,
    };
    let sensors = Sensors::start(sensors).await?;
    let mut progress = Progress::new(args.is_live(), args.duration)?;
    let snapshot = || Snapshot::take(&mut lock(&tally), node.registry(), start.elapsed());
    let sensors = publish(sensors, args.duration, &mut progress, interrupt, snapshot).await?;
    progress.say("the sensors stop; waiting for what is on its way");
    sensors.stop().await?;
    drain(&tally, &mut progress, interrupt, snapshot).await?;
    Ok((tally, witness))
}

/// Waits until the node has connected all its shards.
async fn subscribed(shards: u32, broker: &Broker, node: &Node, interrupt: &mut Interrupt) -> anyhow::Result<()> {
    let all = tokio::select! {
        all = timeout(SUBSCRIBE_DEADLINE, broker.subscribed(usize::try_from(shards)?)) => all,
        () = interrupt.next() => bail!("interrupted before the node was ready"),
    };
    if let Ok(subscribed) = all {
        return subscribed;
    }
    let tasks = node.registry().tasks();
    let states: Vec<_> = tasks
        .iter()
        .map(|task| {
            let status = task.status();
            format!("{} is {} {}", task.shard, status.state, status.message)
        })
        .collect();
    bail!("only {} of {shards} shards subscribed; {}", broker.subscribers(), states.join("; "))
}

/// Lets the sensors publish for `duration`, or until the operator has seen enough.
async fn publish(
    mut sensors: Sensors,
    duration: Option<Duration>,
    progress: &mut Progress,
    interrupt: &mut Interrupt,
    snapshot: impl Fn() -> Snapshot,
) -> anyhow::Result<Sensors> {
    let mut turn = interval(TURN);
    let end = tokio::time::sleep(duration.unwrap_or(Duration::MAX));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return Ok(sensors),
            () = interrupt.next() => return Ok(sensors),
            error = sensors.failed() => return Err(error),
            _ = turn.tick() => if progress.show(&snapshot())? == Wish::End { return Ok(sensors) },
        }
    }
}

/// Waits until everything acknowledged has been seen in Kafka, or nothing comes any more.
async fn drain(
    tally: &Mutex<Tally>,
    progress: &mut Progress,
    interrupt: &mut Interrupt,
    snapshot: impl Fn() -> Snapshot,
) -> anyhow::Result<()> {
    let mut turn = interval(TURN);
    let mut last = (0, Instant::now());
    loop {
        tokio::select! {
            _ = turn.tick() => {}
            () = interrupt.next() => bail!("interrupted before everything had arrived"),
        }
        progress.show(&snapshot())?;
        let totals = lock(tally).totals();
        if totals.delivered != last.0 {
            last = (totals.delivered, Instant::now());
        }
        if totals.missing == 0 || last.1.elapsed() > SILENCE_MAX {
            return Ok(());
        }
    }
}

/// The tally; a panic elsewhere does not make its numbers wrong.
pub(super) fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
