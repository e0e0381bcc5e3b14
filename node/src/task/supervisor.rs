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
    model::{Checkpoint, Epoch, Owner, Revision, Shard, ShardId, State as Told},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    desired::{self, Background, Desired, Own},
    lifecycle::{Action, Phase, RETRY_LONGEST, action, retry_after},
    prepared::Prepared,
};
use crate::{
    config::{InFlight, SecretRoots},
    lane::{End, Ended, Job, Lane, Purpose, Stop},
    lease::Permits,
    pipeline::checkpoint::{self, Checkpointer},
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
    me: Owner,
    permits: Permits,
    registry: Arc<Registry>,
    checkpointer: Checkpointer,
    lanes: Vec<Lane>,
    /// What the lanes have not ended yet, and on which lane it is.
    on_lanes: BTreeMap<(ShardId, Epoch), usize>,
    /// How many of them each lane has.
    loads: Vec<usize>,
    running: BTreeMap<ShardId, Running>,
    prepared: Prepared,
    /// Last words of tasks that have ended, until the leader tells of another epoch: it tells them only to other owners.
    said: BTreeMap<ShardId, Checkpoint>,
    ended: mpsc::UnboundedReceiver<Ended>,
    /// Last words on their way to the log.
    words: JoinSet<Said>,
}

#[derive(Debug)]
struct Running {
    desired: Desired,
    /// The revision of the session that the task began with.
    opened: Option<Revision>,
    phase: Phase,
    task: Arc<Task>,
    stop: watch::Sender<Option<Stop>>,
    started_at: Instant,
    /// In a row.
    failures: u32,
}

#[derive(Debug)]
struct Said {
    task: Arc<Task>,
    /// What is in the log now; none: the shard is another's.
    recorded: Option<Checkpoint>,
    /// None: nothing is left to say.
    again: Option<Word>,
}

#[derive(Debug)]
struct Word {
    task: Arc<Task>,
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
        let (running, prepared, words) = (BTreeMap::new(), Prepared::default(), JoinSet::new());
        let (part, lease, said) = (coordinator.part(), coordinator.lease(), BTreeMap::new());
        let permits = Permits::new(lease.clone(), part.clone(), me.clone());
        Ok(Self {
            config,
            coordinator: coordinator.clone(),
            part,
            lease,
            me,
            permits,
            registry,
            checkpointer,
            lanes,
            on_lanes: BTreeMap::new(),
            loads,
            running,
            prepared,
            said,
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
        self.said.retain(|id, last| part.shards.get(id).is_some_and(|shard| shard.epoch == last.epoch));
        let desired = self.desired(part);
        let is_here = |id: &ShardId, epoch| {
            self.running.contains_key(id) || self.said.get(id).is_some_and(|last| last.epoch == epoch && last.released)
        };
        let me = self.me.clone();
        let leaving = desired::leaving(part, &me).filter(|(id, shard)| !is_here(id, shard.epoch));
        for (id, shard) in leaving.collect::<Vec<_>>() {
            self.give_back(part, id, shard);
        }
        let now = Instant::now();
        let others = self.running.keys().filter(|shard| !desired.contains_key(*shard));
        let due: Vec<_> = desired
            .keys()
            .chain(others)
            .filter_map(|shard| {
                let wanted = desired.get(shard);
                let has = self.running.get(shard).map(|running| (&running.desired, &running.phase));
                let action = action(wanted, has, is_leased, now);
                (action != Action::Nothing).then(|| (shard.clone(), action))
            })
            .collect();
        for (shard, action) in due {
            match (action, desired.get(&shard)) {
                (Action::Start, Some(wanted)) => self.start_task(part, &shard, wanted),
                (Action::Stop, _) => self.stop_task(&shard),
                (Action::Release, _) => self.release_failed(&shard),
                _ => {}
            }
        }
    }

    fn desired(&self, part: &Told) -> BTreeMap<ShardId, Desired> {
        desired::desired(part, &self.me, |id, epoch| self.own(id, epoch))
    }

    fn own(&self, id: &ShardId, epoch: Epoch) -> Option<Own> {
        if let Some(running) = self.running.get(id).filter(|running| running.task.epoch == epoch) {
            // One that has just ended its session has not said so yet.
            let opened = running.task.opened().or(running.opened);
            return Some(Own { opened, is_released: false, is_retired: false });
        }
        let last = self.said.get(id).filter(|last| last.epoch == epoch)?;
        Some(Own {
            opened: last.session.as_ref().map(|session| session.revision),
            is_released: last.released,
            is_retired: last.status.state == State::Retired,
        })
    }

    fn start_task(&mut self, part: &Told, shard: &ShardId, wanted: &Desired) {
        let failed = self.running.get(shard).filter(|failed| failed.task.epoch == wanted.epoch);
        // A failed task's word may still be on its way.
        let last = failed.map(|failed| checkpoint::take(&failed.task, false));
        let last = last.as_ref().or_else(|| self.said.get(shard).filter(|last| last.epoch == wanted.epoch));
        let Some(background) = desired::background(part, shard, wanted, last) else { return };
        let failures = self.running.remove(shard).map_or(0, |running| running.failures);
        let task = Arc::new(Task::new(shard.clone(), wanted.epoch));
        if let Some(checkpoint) = &background.checkpoint {
            task.resume(checkpoint);
        }
        task.set_session(background.session.clone());
        self.registry.insert(Arc::clone(&task));
        let (stop, stopped) = watch::channel(None);
        let lane = self.emptiest_lane();
        let opened = background.session.as_ref().map(|session| session.revision);
        let job = self.job(&task, wanted, background, stopped);
        let mut running = Running {
            desired: wanted.clone(),
            opened,
            phase: Phase::Running,
            task: Arc::clone(&task),
            stop,
            started_at: Instant::now(),
            failures,
        };
        match job {
            Ok(job) => {
                tracing::info!(%shard, epoch = %wanted.epoch, lane, purpose = ?wanted.purpose, "task starts");
                if self.lanes[lane].give(job) {
                    self.on_lanes.insert((shard.clone(), wanted.epoch), lane);
                    self.loads[lane] += 1;
                } else {
                    task.set_status(State::Failed, "the lane has stopped: restart the node and look into its log");
                    running.phase = Phase::Failed { again_at: None };
                }
            }
            Err(message) => {
                tracing::error!(%shard, "{message}");
                task.set_status(State::Failed, message);
                running.fail(true);
            }
        }
        self.running.insert(shard.clone(), running);
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
        let resolved = manifest.resolve(&self.config.secret_roots).map_err(|errors| errors.to_string())?;
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
        if let Some(running) = self.running.get_mut(shard) {
            running.phase = Phase::Stopping;
            running.task.set_status(State::Draining, "");
            running.stop.send_replace(Some(Stop { deadline }));
        }
    }

    /// A task has ended on its lane. Returns whether nothing of it was left in flight.
    fn take(&mut self, ended: &Ended) -> bool {
        self.leave_lane(ended);
        let Some(running) = self.running.get_mut(&ended.shard).filter(|running| running.task.epoch == ended.epoch)
        else {
            return true;
        };
        let task = Arc::clone(&running.task);
        tracing::info!(shard = %ended.shard, epoch = %ended.epoch, end = ?ended.end, "task ended");
        match ended.end {
            End::Failed { may_pass } if running.phase == Phase::Running => {
                running.fail(may_pass);
                self.say(Word { task, is_release: false });
            }
            End::Retired => {
                running.phase = Phase::Retired;
                self.say(Word { task, is_release: false });
            }
            // A task that was restarted in place, for a new revision say, keeps its shard.
            End::Stopped { .. } | End::Failed { .. } => {
                // Nor does one that ended by itself, since its permit was taken away, and may be given another.
                running.phase = Phase::Stopping;
                let is_wanted = self.desired(&self.part.borrow()).contains_key(&ended.shard);
                self.say(Word { task, is_release: !is_wanted });
            }
        }
        !matches!(ended.end, End::Stopped { is_clean: false })
    }

    /// Gives back a shard that is not running here, as it came.
    fn give_back(&mut self, part: &Told, id: &ShardId, told: &Shard) {
        let task = Arc::new(Task::new(id.clone(), told.epoch));
        let last = self.said.get(id).filter(|last| last.epoch == told.epoch);
        if let Some(checkpoint) = last.or_else(|| part.checkpoints.get(id)) {
            task.resume(checkpoint);
        }
        task.set_session(last.map_or(&told.session, |last| &last.session).clone());
        task.set_status(State::Stopped, "");
        let desired = Desired { epoch: told.epoch, purpose: Purpose::Run, revision: Revision::default() };
        let running = Running {
            desired,
            opened: task.opened(),
            phase: Phase::Stopping,
            task: Arc::clone(&task),
            stop: watch::Sender::new(None),
            started_at: Instant::now(),
            failures: 0,
        };
        self.running.insert(id.clone(), running);
        self.say(Word { task, is_release: true });
    }

    fn release_failed(&mut self, shard: &ShardId) {
        if let Some(running) = self.running.get_mut(shard) {
            running.phase = Phase::Stopping;
            running.task.set_status(State::Stopped, "");
            let task = Arc::clone(&running.task);
            self.say(Word { task, is_release: true });
        }
    }

    fn say(&mut self, word: Word) {
        let checkpointer = self.checkpointer.clone();
        self.words.spawn(async move {
            use crate::pipeline::checkpoint::RecordError;
            let task = Arc::clone(&word.task);
            let said = match word.is_release {
                true => checkpointer.release(&word.task).await,
                false => checkpointer.record(&word.task).await,
            };
            match said {
                Ok(recorded) => Said { task, recorded: Some(recorded), again: None },
                Err(RecordError::Fenced(_) | RecordError::Stopping) => Said { task, recorded: None, again: None },
                Err(RecordError::Unavailable(error)) => {
                    tracing::warn!(shard = %task.shard, %error, "the last checkpoint is not recorded yet");
                    sleep(LOOK_EVERY).await;
                    Said { task, recorded: None, again: Some(word) }
                }
            }
        });
    }

    fn heard(&mut self, said: Option<Said>) {
        match said {
            Some(Said { again: Some(word), .. }) => self.say(word),
            Some(Said { task, recorded, again: None }) => {
                if let Some(checkpoint) = recorded {
                    self.said.insert(task.shard.clone(), checkpoint);
                }
                let is_over = |running: &Running| {
                    Arc::ptr_eq(&running.task, &task) && matches!(running.phase, Phase::Stopping | Phase::Retired)
                };
                if self.running.get(&task.shard).is_some_and(is_over) {
                    self.running.remove(&task.shard);
                    self.registry.remove(&task.shard);
                }
            }
            None => {}
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
        let shards: Vec<_> = self.running.keys().cloned().collect();
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
        let joined = tokio::task::spawn_blocking(move || lanes.into_iter().for_each(Lane::join));
        is_clean && joined.await.is_ok()
    }

    /// As [`take`](Self::take), while the node stops: every shard is given back.
    fn release(&mut self, ended: &Ended) -> bool {
        self.leave_lane(ended);
        if let Some(running) = self.running.get_mut(&ended.shard) {
            running.phase = Phase::Stopping;
            let task = Arc::clone(&running.task);
            self.say(Word { task, is_release: true });
        }
        !matches!(ended.end, End::Stopped { is_clean: false })
    }
}

impl Running {
    fn fail(&mut self, may_pass: bool) {
        self.failures = if self.started_at.elapsed() >= RETRY_LONGEST { 1 } else { self.failures + 1 };
        self.phase = Phase::Failed { again_at: may_pass.then(|| Instant::now() + retry_after(self.failures)) };
    }
}
