//! Steers what runs here to what the coordinator wants.
//!
//! One loop: look at what the leader has told this node and at what has ended, ask the table, start and stop. A task's shard is given
//! back with its last checkpoint, in the order: stopped on its lane, word in the log, next task. A node that hears no leader
//! keeps what was told last: nothing stops, and nothing starts.

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use sluice_coordinator::{
    Coordinator, Lease,
    model::{Checkpoint, Epoch, Owner, Revision, ShardId, State as Told, UnixMs},
    now,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    desired::{self, Background, Desired},
    lifecycle::Phase,
    prepared::Prepared,
    table::{LastWord, Live, Step, Table},
};
use crate::{
    config::{InFlight, SecretRoots},
    lane::{End, Ended, Job, Lane, Purpose, Stop},
    lease::Permits,
    pipeline::checkpoint::{Checkpointer, RecordError},
    registry::{Registry, State, Task},
};

/// How often tasks that wait for their next try are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a supervisor works with.
#[derive(Debug)]
pub struct Config {
    /// Threads that carry readings.
    pub lanes: usize,
    /// Bounds of each lane.
    pub in_flight: InFlight,
    /// Where `${file:…}` may read.
    pub secret_roots: SecretRoots,
    /// How long a task that stops may deliver what it has in flight.
    pub drain_deadline: Duration,
}

/// The tasks of this node.
#[derive(Debug)]
pub struct Supervisor {
    config: Config,
    coordinator: Coordinator,
    /// What the leader has told this node.
    part: watch::Receiver<Arc<Told>>,
    lease: Lease,
    permits: Permits,
    registry: Arc<Registry>,
    checkpointer: Checkpointer,
    lanes: Vec<Lane>,
    /// What the lanes have not ended yet, and on which lane it is.
    on_lanes: BTreeMap<(ShardId, Epoch), usize>,
    /// How many of them each lane has.
    loads: Vec<usize>,
    running: Table<Held>,
    prepared: Prepared,
    ended: mpsc::UnboundedReceiver<Ended>,
    /// Last words on their way to the log.
    words: JoinSet<Said>,
}

/// What is kept of a task.
#[derive(Debug)]
struct Held {
    task: Arc<Task>,
    stop: watch::Sender<Option<Stop>>,
}

impl Live for Held {
    fn opened(&self) -> Option<Revision> {
        self.task.opened()
    }

    fn word(&self, at: UnixMs) -> Checkpoint {
        Live::word(&self.task, at)
    }
}

#[derive(Debug)]
struct Said {
    task: Arc<Task>,
    /// The task's in the table.
    number: u64,
    /// What is in the log now; none: the shard is another's.
    recorded: Option<Checkpoint>,
    /// None: nothing is left to say.
    again: Option<Word>,
}

#[derive(Debug)]
struct Word {
    task: Arc<Task>,
    number: u64,
    is_release: bool,
}

impl Supervisor {
    /// Starts the lanes.
    ///
    /// # Errors
    /// The system gives no threads or descriptors.
    pub fn start(
        config: Config,
        coordinator: &Coordinator,
        me: Owner,
        registry: Arc<Registry>,
        checkpointer: Checkpointer,
    ) -> io::Result<Self> {
        // Bounded by the number of tasks: each ends once.
        let (ended_out, ended) = mpsc::unbounded_channel();
        let lanes = (0..config.lanes).map(|number| Lane::start(number, config.in_flight, ended_out.clone()));
        let lanes = lanes.collect::<io::Result<_>>()?;
        let loads = vec![0; config.lanes];
        let (running, prepared, words) = (Table::new(me.clone()), Prepared::default(), JoinSet::new());
        let (part, lease) = (coordinator.part(), coordinator.lease());
        let permits = Permits::new(lease.clone(), part.clone(), me);
        Ok(Self {
            config,
            coordinator: coordinator.clone(),
            part,
            lease,
            permits,
            registry,
            checkpointer,
            lanes,
            on_lanes: BTreeMap::new(),
            loads,
            running,
            prepared,
            ended,
            words,
        })
    }

    /// Reconciles until `stop`, then stops every task. Returns whether nothing was left in flight.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> bool {
        let (mut told, lease) = (self.part.clone(), self.lease.clone());
        while !*stop.borrow() {
            // What is told from here on is a change, also while this looks.
            let part = Arc::clone(&told.borrow_and_update());
            let is_leased = lease.is_valid();
            self.reconcile(&part, is_leased);
            tokio::select! {
                // An error says that the coordinator or the node is going away: `stop` follows.
                changed = told.changed() => if changed.is_err() { break },
                () = lease.valid(), if !is_leased => {}
                changed = stop.changed() => if changed.is_err() { break },
                Some(ended) = self.ended.recv() => { self.take(&ended); }
                Some(said) = self.words.join_next() => self.heard(said.ok()),
                () = sleep(LOOK_EVERY) => {}
            }
            self.take_waiting();
        }
        self.stop_all().await
    }

    /// What else has ended and been said by now: one look at everything is enough for all of it.
    fn take_waiting(&mut self) {
        while let Ok(ended) = self.ended.try_recv() {
            self.take(&ended);
        }
        while let Some(said) = self.words.try_join_next() {
            self.heard(said.ok());
        }
    }

    fn reconcile(&mut self, part: &Told, is_leased: bool) {
        for (shard, step) in self.running.steps(part, is_leased, Instant::now()) {
            match step {
                Step::Start(wanted) => self.start_task(part, &shard, &wanted),
                Step::Stop => self.stop_task(&shard),
                Step::GiveBack => self.give_back(part, &shard),
                Step::Release => self.release_failed(&shard),
            }
        }
    }

    fn start_task(&mut self, part: &Told, shard: &ShardId, wanted: &Desired) {
        let last = self.running.last_word(shard, wanted.epoch, now());
        let Some(background) = desired::background(part, shard, wanted, last.as_ref()) else { return };
        let task = Arc::new(Task::new(shard.clone(), wanted.epoch));
        if let Some(checkpoint) = &background.checkpoint {
            task.resume(checkpoint);
        }
        task.set_session(background.session.clone());
        self.registry.insert(Arc::clone(&task));
        let (stop, stopped) = watch::channel(None);
        let lane = self.emptiest_lane();
        // The coordinator knows of a session before the broker does.
        let has_no_session = background.session.is_none();
        let job = self.job(&task, wanted, background, stopped);
        let held = Held { task: Arc::clone(&task), stop };
        self.running.insert(shard, wanted.clone(), Phase::Running, held, Instant::now());
        match job {
            Ok(job) => {
                tracing::info!(%shard, epoch = %wanted.epoch, lane, purpose = ?wanted.purpose, "task starts");
                if self.lanes[lane].give(job) {
                    self.on_lanes.insert((shard.clone(), wanted.epoch), lane);
                    self.loads[lane] += 1;
                } else {
                    task.set_status(State::Failed, "the lane has stopped: restart the node and look into its log");
                    self.running.failed(shard, false, Instant::now());
                }
            }
            Err(_) if wanted.purpose == Purpose::Retire && has_no_session => {
                task.set_status(State::Retired, "");
                self.take(&Ended { shard: shard.clone(), epoch: wanted.epoch, end: End::Retired });
            }
            // What it would need to end the session is not to be had, and what the session holds may be lost: the user has said so.
            Err(message) if wanted.purpose == Purpose::Discard => {
                tracing::warn!(%shard, "{message}: the session could not be ended; if the MQTT broker has one, remove it there");
                task.set_session(None);
                task.set_status(State::Retired, "");
                self.take(&Ended { shard: shard.clone(), epoch: wanted.epoch, end: End::Retired });
            }
            Err(message) => {
                tracing::error!(%shard, "{message}");
                task.set_status(State::Failed, message);
                self.running.failed(shard, true, Instant::now());
            }
        }
    }

    fn job(
        &mut self,
        task: &Arc<Task>,
        wanted: &Desired,
        background: Background,
        stop: watch::Receiver<Option<Stop>>,
    ) -> Result<Job, String> {
        let manifest =
            self.prepared.manifest(&background.spec, wanted.revision).map_err(|errors| errors.to_string())?;
        let mut resolved = manifest.resolve(&self.config.secret_roots).map_err(|errors| errors.to_string())?;
        resolved.producer = self.prepared.producer(resolved.producer);
        Ok(Job {
            task: Arc::clone(task),
            purpose: wanted.purpose,
            revision: wanted.revision,
            ca_file: manifest.source.ca_file.clone(),
            client_id: format!("{}-{}", background.spec.source.client_id_prefix, task.shard.index),
            manifest,
            resolved,
            recorded: background.session,
            checkpointer: self.checkpointer.clone(),
            permit: self.permits.of(&task.shard, task.epoch),
            stop,
        })
    }

    fn stop_task(&mut self, shard: &ShardId) {
        let deadline = Instant::now() + self.config.drain_deadline;
        self.running.stopping(shard);
        if let Some(running) = self.running.get(shard) {
            running.held.task.set_status(State::Draining, "");
            running.held.stop.send_replace(Some(Stop { deadline }));
        }
    }

    /// A task has ended on its lane. Returns whether nothing of it was left in flight.
    fn take(&mut self, ended: &Ended) -> bool {
        self.leave_lane(ended);
        let Ended { shard, epoch, end } = ended;
        let word = self.running.ended(shard, *epoch, end, &self.part.borrow(), Instant::now());
        let (Some(LastWord { is_release }), Some(running)) = (word, self.running.get(shard)) else { return true };
        tracing::info!(%shard, %epoch, ?end, "task ended");
        let word = Word { task: Arc::clone(&running.held.task), number: running.number, is_release };
        self.say(word);
        !matches!(end, End::Stopped { is_clean: false })
    }

    /// Gives back a shard that is not running here, as it came or was left.
    fn give_back(&mut self, part: &Told, shard: &ShardId) {
        let Some(told) = part.shards.get(shard) else { return };
        let task = Arc::new(Task::new(shard.clone(), told.epoch));
        let last = self.running.last_word(shard, told.epoch, now());
        if let Some(checkpoint) = last.as_ref().or_else(|| part.checkpoints.get(shard)) {
            task.resume(checkpoint);
        }
        task.set_session(last.map_or_else(|| told.session.clone(), |last| last.session));
        task.set_status(State::Stopped, "");
        let desired = Desired { epoch: told.epoch, purpose: Purpose::Run, revision: Revision::default() };
        let held = Held { task: Arc::clone(&task), stop: watch::Sender::new(None) };
        let number = self.running.insert(shard, desired, Phase::Stopping, held, Instant::now());
        self.say(Word { task, number, is_release: true });
    }

    fn release_failed(&mut self, shard: &ShardId) {
        if let Some(running) = self.running.get(shard) {
            running.held.task.set_status(State::Stopped, "");
        }
        self.give_up(shard);
    }

    /// What the shard's task has to say is its last word.
    fn give_up(&mut self, shard: &ShardId) {
        self.running.stopping(shard);
        if let Some(running) = self.running.get(shard) {
            let word = Word { task: Arc::clone(&running.held.task), number: running.number, is_release: true };
            self.say(word);
        }
    }

    fn say(&mut self, word: Word) {
        let checkpointer = self.checkpointer.clone();
        self.words.spawn(async move {
            let (task, number) = (Arc::clone(&word.task), word.number);
            let said = match word.is_release {
                true => checkpointer.release(&word.task).await,
                false => checkpointer.record(&word.task).await,
            };
            match said {
                Ok(recorded) => Said { task, number, recorded: Some(recorded), again: None },
                Err(RecordError::Fenced(_) | RecordError::Stopping) => {
                    Said { task, number, recorded: None, again: None }
                }
                Err(RecordError::Unavailable(error)) => {
                    tracing::warn!(shard = %task.shard, %error, "the last checkpoint is not recorded yet");
                    sleep(LOOK_EVERY).await;
                    Said { task, number, recorded: None, again: Some(word) }
                }
            }
        });
    }

    fn heard(&mut self, said: Option<Said>) {
        let Some(Said { task, number, recorded, again }) = said else { return };
        if let Some(word) = again {
            return self.say(word);
        }
        if self.running.said(&task.shard, number, recorded) {
            self.registry.remove(&task.shard);
        }
    }

    fn leave_lane(&mut self, ended: &Ended) {
        if let Some(lane) = self.on_lanes.remove(&(ended.shard.clone(), ended.epoch)) {
            self.loads[lane] -= 1;
        }
    }

    fn emptiest_lane(&self) -> usize {
        (0..self.lanes.len()).min_by_key(|lane| self.loads[*lane]).unwrap_or(0)
    }

    async fn stop_all(mut self) -> bool {
        let shards: Vec<_> = self.running.iter().map(|(shard, _)| shard.clone()).collect();
        for shard in &shards {
            match self.running.get(shard).map(|running| &running.phase) {
                Some(Phase::Running) => self.stop_task(shard),
                Some(Phase::Failed { .. }) => self.release_failed(shard),
                _ => {}
            }
        }
        let mut is_clean = true;
        // A task's own deadline and goodbye, and one proposal: more means that the coordinator is away, and nothing is lost by leaving.
        let patience = sleep(self.config.drain_deadline + Duration::from_secs(5));
        let coordinator = self.coordinator.clone();
        let abandoned = coordinator.abandoned();
        tokio::pin!(patience, abandoned);
        let mut is_abandoned = false;
        while !self.running.is_empty() {
            if is_abandoned && self.on_lanes.is_empty() {
                tracing::warn!(
                    shards = self.running.len(),
                    "nobody is there to give shards back to; their epochs fence what is left"
                );
                is_clean = false;
                break;
            }
            tokio::select! {
                Some(ended) = self.ended.recv() => is_clean &= self.release(&ended),
                Some(said) = self.words.join_next() => self.heard(said.ok()),
                () = &mut abandoned, if !is_abandoned => is_abandoned = true,
                () = &mut patience => {
                    tracing::warn!(shards = self.running.len(), "not every shard was given back in time; their epochs fence what is left");
                    is_clean = false;
                    break;
                }
            }
        }
        self.words.shutdown().await;
        let lanes = std::mem::take(&mut self.lanes);
        let joined = tokio::task::spawn_blocking(move || Lane::join_all(lanes));
        is_clean && joined.await.is_ok()
    }

    /// As [`take`](Self::take), while the node stops: every shard is given back.
    fn release(&mut self, ended: &Ended) -> bool {
        self.leave_lane(ended);
        self.give_up(&ended.shard);
        !matches!(ended.end, End::Stopped { is_clean: false })
    }
}
