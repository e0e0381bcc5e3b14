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
    nodes::{Nodes, Order},
    progress::{Progress, Wish},
    sensors::{self, Sensors},
    snapshot::Snapshot,
    tally::Tally,
    witness::Witness,
};

/// How long the nodes may take to connect all their shards.
const SUBSCRIBE_DEADLINE: Duration = Duration::from_secs(20);
/// How long nothing may arrive before what is missing counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long nothing may arrive before dead nodes are started again: longer than a takeover. Without a quorum, for example, nobody may
/// take their shards over, and what waits in the MQTT broker is not lost.
const TAKEOVER_MAX: Duration = Duration::from_secs(4);
/// How often progress is shown.
const TURN: Duration = Duration::from_millis(100);

/// Runs it. What is left to do is stop the nodes and read Kafka to its end.
pub(super) async fn run(
    args: &Args,
    broker: &Broker,
    kafka: &Kafka,
    nodes: &mut Nodes,
    interrupt: &mut Interrupt,
) -> anyhow::Result<(Arc<Mutex<Tally>>, Witness)> {
    subscribed(args.shards, broker, nodes, interrupt).await?;
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
    let progress = Progress::new(args.is_live(), args.duration)?;
    let mut course = Course { nodes, tally: Arc::clone(&tally), progress, interrupt, start };
    let sensors = course.publish(sensors, args.duration, args.kill_after).await?;
    course.progress.say("the sensors stop; waiting for what is on its way");
    sensors.stop().await?;
    course.drain().await?;
    Ok((tally, witness))
}

/// Waits until the nodes have connected all shards.
async fn subscribed(shards: u32, broker: &Broker, nodes: &Nodes, interrupt: &mut Interrupt) -> anyhow::Result<()> {
    let all = tokio::select! {
        all = timeout(SUBSCRIBE_DEADLINE, broker.subscribed(usize::try_from(shards)?)) => all,
        () = interrupt.next() => bail!("interrupted before the shards were connected"),
    };
    if let Ok(subscribed) = all {
        return subscribed;
    }
    bail!("only {} of {shards} shards subscribed; {}", broker.subscribers(), nodes.states())
}

struct Course<'d> {
    nodes: &'d mut Nodes,
    tally: Arc<Mutex<Tally>>,
    progress: Progress,
    interrupt: &'d mut Interrupt,
    start: Instant,
}

impl Course<'_> {
    /// Lets the sensors publish for `duration`, or until the operator has seen enough. `kill_after` so long the leader is killed.
    async fn publish(
        &mut self,
        mut sensors: Sensors,
        duration: Option<Duration>,
        kill_after: Option<Duration>,
    ) -> anyhow::Result<Sensors> {
        let mut turn = interval(TURN);
        let mut kill_at = kill_after.map(|after| Instant::now() + after);
        let end = tokio::time::sleep(duration.unwrap_or(Duration::MAX));
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return Ok(sensors),
                () = self.interrupt.next() => return Ok(sensors),
                error = sensors.failed() => return Err(error),
                _ = turn.tick() => {}
            }
            match self.show()? {
                Wish::GoOn => {}
                Wish::End | Wish::Interrupt => return Ok(sensors),
                Wish::Do(order) => {
                    self.obey(order)?;
                }
            }
            // While nobody leads there is nobody to kill: then a turn later.
            if kill_at.is_some_and(|at| at <= Instant::now()) && self.obey(Order::KillLeader)? {
                kill_at = None;
            }
        }
    }

    /// Waits until everything acknowledged has been seen in Kafka, or nothing comes any more.
    async fn drain(&mut self) -> anyhow::Result<()> {
        let mut turn = interval(TURN);
        let mut last = (0, Instant::now());
        loop {
            tokio::select! {
                _ = turn.tick() => {}
                () = self.interrupt.next() => bail!("interrupted before everything had arrived"),
            }
            if self.show()? == Wish::Interrupt {
                bail!("interrupted before everything had arrived");
            }
            let totals = lock(&self.tally).totals();
            if totals.delivered != last.0 {
                last = (totals.delivered, Instant::now());
            }
            if totals.missing == 0 || last.1.elapsed() > SILENCE_MAX {
                return Ok(());
            }
            if last.1.elapsed() > TAKEOVER_MAX && self.obey(Order::StartDead)? {
                last.1 = Instant::now();
            }
        }
    }

    fn show(&mut self) -> anyhow::Result<Wish> {
        let elapsed = self.start.elapsed();
        for sentence in self.nodes.look()? {
            self.progress.tell(elapsed, &sentence);
        }
        let snapshot = Snapshot::take(&mut lock(&self.tally), self.nodes.carriers(), elapsed);
        Ok(self.progress.show(&snapshot)?)
    }

    /// Whether there was anything to do.
    fn obey(&mut self, order: Order) -> anyhow::Result<bool> {
        let done = self.nodes.obey(order)?;
        for sentence in &done {
            self.progress.tell(self.start.elapsed(), sentence);
        }
        Ok(!done.is_empty())
    }
}

/// The tally; a panic elsewhere does not make its numbers wrong.
pub(super) fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
