//! The demo's cluster: nodes that are processes of their own, so that a kill is a real kill -9.
//!
//! What is shown of them comes from three sides: their processes, their gRPC, and the MQTT broker that sees their acks.

mod face;
mod observer;
mod ports;
mod process;
mod story;

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::bail;
use tokio::time::{Instant, interval};

pub(super) use self::face::{Face, Node, NodeState, Shard, ShardState};
pub use self::story::Killed;
use self::{
    observer::Observer,
    ports::Ports,
    process::{Condition, Happening, Process},
    story::Story,
};
use super::flows::Flows;

/// How long all nodes may take to be one cluster.
const FORM_DEADLINE: Duration = Duration::from_secs(30);
/// How often processes are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long nodes may take to stop in order. Those that stop last may have no quorum left to take their leave of, and would wait for one;
/// nothing is in flight by then, and a kill loses nothing.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// Looks that a rate is averaged over: with the course's ten looks a second, one second.
const RATE_LOOKS: usize = 11;

/// Settings of every node, so that a kill heals while one watches: about half of the defaults, which suit a network.
const TIMINGS: [&str; 7] = [
    "--lease=1s",
    "--keep-alive=150ms",
    "--heartbeat=50ms",
    "--election-timeout=250ms-500ms",
    "--drain-deadline=2s",
    "--checkpoint-interval=300ms",
    "--lanes=1",
];

/// The running nodes.
#[derive(Debug)]
pub(super) struct Cluster {
    processes: Vec<Process>,
    observer: Observer,
    flows: Arc<Mutex<Flows>>,
    /// Acked so far, by shard, at the last looks.
    looks: VecDeque<(Instant, Vec<u64>)>,
    story: Story,
}

impl Cluster {
    /// Starts `count` nodes with their disks beneath `dir`. They are not one cluster yet.
    pub(super) fn start(count: usize, dir: &Path, flows: Arc<Mutex<Flows>>) -> anyhow::Result<Self> {
        let mut ports = Ports::new();
        let mut addresses = || (0..count).map(|_| ports.free()).collect::<anyhow::Result<Vec<_>>>();
        let (listen, admin, http) = (addresses()?, addresses()?, addresses()?);
        let seeds = listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
        let node = |index: usize| {
            let name = format!("sluice-{index}");
            let mut arguments: Vec<OsString> = vec![
                format!("--name={name}").into(),
                "--cluster=demo".into(),
                format!("--cluster-listen={}", listen[index]).into(),
                format!("--seeds={seeds}").into(),
                format!("--bootstrap-expect={count}").into(),
                // Whoever is on this machine could take part; it is a demo on loopback.
                "--cluster-insecure=true".into(),
                format!("--admin-listen={}", admin[index]).into(),
                format!("--http-listen={}", http[index]).into(),
                "--data-dir".into(),
                dir.join(&name).into(),
            ];
            arguments.extend(TIMINGS.map(OsString::from));
            let log = dir.join(format!("{name}.log"));
            Process::start(name, arguments, log)
        };
        fs::create_dir_all(dir)?;
        let processes = (0..count).map(node).collect::<anyhow::Result<_>>()?;
        let observer = Observer::start(&admin)?;
        Ok(Self { processes, observer, flows, looks: VecDeque::new(), story: Story::default() })
    }

    /// Waits until all nodes are one cluster and those vote that are to, then applies the pipeline.
    pub(super) async fn form(&mut self, manifest: &str) -> anyhow::Result<()> {
        let (count, voters) = (self.processes.len(), voters(self.processes.len()));
        let deadline = Instant::now() + FORM_DEADLINE;
        let mut look = interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let answer = self.observer.answer();
            if answer.alive() == count && answer.voters() == voters {
                break;
            }
            for process in &mut self.processes {
                if let Some(Happening::Ended(status)) = process.look()? {
                    bail!("{} ended with {status}: {}", process.name, process.last_words());
                }
            }
            if Instant::now() > deadline {
                bail!("only {} of {count} nodes joined, {} of {voters} vote", answer.alive(), answer.voters());
            }
        }
        self.observer.apply(manifest).await
    }

    /// Looks at everything; what has happened, in sentences.
    pub(super) fn look(&mut self) -> anyhow::Result<Vec<String>> {
        let mut news = Vec::new();
        for process in &mut self.processes {
            news.extend(process.look()?.map(|happening| match happening {
                Happening::StartedAgain => format!("{} has stopped in order and starts again", process.name),
                Happening::Ended(status) => {
                    format!("{} ended by itself, {status}: {}", process.name, process.last_words())
                }
            }));
        }
        let acked = lock(&self.flows).acked_by_shard();
        if self.looks.len() == RATE_LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back((Instant::now(), acked));
        let face = self.face();
        news.extend(self.story.go_on(&face, &lock(&self.flows)));
        Ok(news)
    }

    /// What it looks like now.
    pub(super) fn face(&self) -> Face {
        let processes: Vec<_> =
            self.processes.iter().map(|process| (process.name.as_str(), process.condition())).collect();
        Face::of(&self.observer.answer(), &processes, &self.rates())
    }

    /// kill -9.
    pub(super) fn kill(&mut self, node: usize) -> anyhow::Result<Option<String>> {
        // Before the kill, since what the node acks until then is not part of the gap.
        let face = self.face();
        let Some(process) = self.processes.get_mut(node) else { return Ok(None) };
        if !process.kill()? {
            return Ok(None);
        }
        Ok(Some(self.story.killed(node, &face, &lock(&self.flows))))
    }

    /// kill -9 of the node that leads; `None`: none does now.
    pub(super) fn kill_leader(&mut self) -> anyhow::Result<Option<String>> {
        match self.face().leader() {
            Some(leader) => self.kill(leader),
            None => Ok(None),
        }
    }

    /// Starts a dead node again; one that runs stops in order first.
    pub(super) fn start_again(&mut self, node: usize) -> anyhow::Result<Option<String>> {
        let Some(process) = self.processes.get_mut(node) else { return Ok(None) };
        let was_dead = process.start_again()?;
        let what = if was_dead { "starts again" } else { "stops in order, handing its shards over" };
        Ok(Some(format!("{} {what}", process.name)))
    }

    /// Starts every dead node again.
    pub(super) fn start_dead(&mut self) -> anyhow::Result<Vec<String>> {
        let dead: Vec<_> =
            (0..self.processes.len()).filter(|node| self.processes[*node].condition() == Condition::Dead).collect();
        dead.into_iter().filter_map(|node| self.start_again(node).transpose()).collect()
    }

    /// All nodes that were killed.
    pub(super) fn kills(&self) -> Vec<Killed> {
        self.story.kills()
    }

    /// Stops all nodes, in order as far as they do in time.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.processes.iter_mut().for_each(Process::tell_to_stop);
        let deadline = Instant::now() + STOP_PATIENCE;
        for process in &mut self.processes {
            process.stopped(deadline).await?;
        }
        Ok(())
    }

    /// Readings a second, by shard.
    fn rates(&self) -> Vec<u64> {
        let (Some((from, before)), Some((to, after))) = (self.looks.front(), self.looks.back()) else {
            return Vec::new();
        };
        let millis = u64::try_from((*to - *from).as_millis()).unwrap_or(u64::MAX).max(1);
        before.iter().zip(after).map(|(before, after)| (after - before) * 1_000 / millis).collect()
    }
}

/// How many of so many nodes vote: the coordinator's rule.
fn voters(nodes: usize) -> usize {
    match nodes {
        0..=2 => 1,
        3 | 4 => 3,
        _ => 5,
    }
}

/// The flows; a panic elsewhere does not make their numbers wrong.
fn lock(flows: &Mutex<Flows>) -> MutexGuard<'_, Flows> {
    flows.lock().unwrap_or_else(PoisonError::into_inner)
}
