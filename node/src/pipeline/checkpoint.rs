//! Checkpoints: what this node's tasks have delivered, told to the coordinator in one proposal an interval.
//!
//! [`Checkpointer`] is the handle. A task's word is also taken at once where it must be in the log before something happens:
//! before a session is opened at a broker, and when a shard is given back. Order is promised within one task.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sluice_coordinator::{
    Coordinator, ProposeError,
    machine::{Outcome, RecordCheckpoints},
    model::{Checkpoint, Ledger, Owner, ShardId, UnixMs},
    now,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use crate::registry::{Registry, State, Task};

/// Words that wait to be taken. A task has at most one under way, so this is tasks that start or stop at the same moment;
/// more of them wait in their turn.
const WAITING_MAX: usize = 1_024;

/// Why a task's word is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The shard is another's now: the task must stop.
    #[error("the checkpoint is refused: {0}")]
    Fenced(String),
    /// The coordinator did not take it; nothing is known to be wrong with the task.
    #[error("the checkpoint is not recorded: {0}")]
    Unavailable(#[from] ProposeError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Takes tasks' words to the coordinator.
#[derive(Debug, Clone)]
pub struct Checkpointer {
    words: mpsc::Sender<Word>,
}

#[derive(Debug)]
struct Word {
    task: Arc<Task>,
    is_released: bool,
    answer: oneshot::Sender<Result<Checkpoint, RecordError>>,
}

impl Checkpointer {
    /// A handle, and the service that answers it.
    pub fn new(coordinator: Coordinator, me: Owner, registry: Arc<Registry>, every: Duration) -> (Self, Service) {
        let (words, inbox) = mpsc::channel(WAITING_MAX);
        (Self { words }, Service { coordinator, me, registry, every, inbox, last: BTreeMap::new() })
    }

    /// Returns when the task's present word is in the log, and what it was.
    ///
    /// # Errors
    /// It was refused, or did not get there.
    pub async fn record(&self, task: &Arc<Task>) -> Result<Checkpoint, RecordError> {
        self.say(task, false).await
    }

    /// Has the task's present word recorded, without waiting: what is lost on the way, the next interval tells.
    pub fn record_soon(&self, task: &Arc<Task>) {
        let (answer, _) = oneshot::channel();
        drop(self.words.try_send(Word { task: Arc::clone(task), is_released: false, answer }));
    }

    /// As [`record`](Self::record), and gives the shard back.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub async fn release(&self, task: &Arc<Task>) -> Result<Checkpoint, RecordError> {
        self.say(task, true).await
    }

    async fn say(&self, task: &Arc<Task>, is_released: bool) -> Result<Checkpoint, RecordError> {
        let (answer, answered) = oneshot::channel();
        let word = Word { task: Arc::clone(task), is_released, answer };
        self.words.send(word).await.map_err(|_| RecordError::Stopping)?;
        answered.await.map_err(|_| RecordError::Stopping)?
    }
}

/// Makes the proposals. Ends when every handle is gone.
#[derive(Debug)]
pub struct Service {
    coordinator: Coordinator,
    me: Owner,
    registry: Arc<Registry>,
    every: Duration,
    inbox: mpsc::Receiver<Word>,
    /// What was last recorded of each shard, to leave out what has not changed.
    last: BTreeMap<ShardId, Checkpoint>,
}

impl Service {
    /// Runs until every handle is gone.
    pub async fn run(mut self) {
        let mut next = Instant::now() + self.every;
        let mut words = Vec::new();
        loop {
            tokio::select! {
                taken = self.inbox.recv_many(&mut words, WAITING_MAX) => {
                    if taken == 0 {
                        return;
                    }
                    self.record_words(std::mem::take(&mut words)).await;
                }
                () = sleep_until(next) => {
                    self.record_changes().await;
                    // The leader stretches it when many nodes would write more to the log than it should carry.
                    next = Instant::now() + self.every.max(self.coordinator.checkpoint_interval());
                }
            }
        }
    }

    /// Every task's word, where it says something new.
    async fn record_changes(&mut self) {
        let tasks = self.registry.tasks();
        // They come ordered by shard.
        self.last.retain(|shard, _| tasks.binary_search_by(|task| task.shard.cmp(shard)).is_ok());
        let changed = news(&tasks, &self.last, now());
        if changed.is_empty() {
            return;
        }
        match self.propose(changed).await {
            Ok(refused) if refused.is_empty() => {}
            Ok(refused) => {
                for (shard, why) in refused {
                    tracing::info!(%shard, "{why}");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "checkpoints are not recorded; delivery goes on, and they are tried again");
            }
        }
    }

    async fn record_words(&mut self, words: Vec<Word>) {
        let said = |word: &Word| (word.task.shard.clone(), take(&word.task, word.is_released, now()));
        let checkpoints: Vec<_> = words.iter().map(said).collect();
        let outcome = self.propose(checkpoints.clone()).await;
        for (word, (shard, checkpoint)) in words.into_iter().zip(checkpoints) {
            let answer = match &outcome {
                Ok(refused) => match refused.get(&shard) {
                    None => Ok(checkpoint),
                    Some(why) => Err(RecordError::Fenced(why.clone())),
                },
                Err(error) => Err(RecordError::Unavailable(error.clone())),
            };
            // Who no longer waits has given up on the task.
            drop(word.answer.send(answer));
        }
    }

    /// Proposes; returns the refused.
    async fn propose(
        &mut self,
        checkpoints: Vec<(ShardId, Checkpoint)>,
    ) -> Result<BTreeMap<ShardId, String>, ProposeError> {
        let command = RecordCheckpoints { node: self.me.clone(), checkpoints: checkpoints.clone() };
        let refused: BTreeMap<_, _> = match self.coordinator.propose(command).await? {
            Outcome::Recorded { refused } => {
                refused.into_iter().map(|refused| (refused.shard.clone(), refused.to_string())).collect()
            }
            other => checkpoints.iter().map(|(shard, _)| (shard.clone(), format!("{other:?}"))).collect(),
        };
        self.last.extend(checkpoints.into_iter().filter(|(shard, _)| !refused.contains_key(shard)));
        Ok(refused)
    }
}

/// The words of `tasks` that say something else than their `last`. One that has stopped says its last word by itself.
pub fn news(tasks: &[Arc<Task>], last: &BTreeMap<ShardId, Checkpoint>, at: UnixMs) -> Vec<(ShardId, Checkpoint)> {
    let tasks = tasks.iter().filter(|task| task.status().state != State::Stopped);
    let news = tasks.map(|task| (task.shard.clone(), take(task, false, at)));
    news.filter(|(shard, word)| last.get(shard).is_none_or(|last| !says_the_same(last, word))).collect()
}

/// The task's word as it is at `at`.
pub fn take(task: &Task, released: bool, at: UnixMs) -> Checkpoint {
    Checkpoint {
        epoch: task.epoch,
        taken_at: at,
        ledger: ledger(task),
        next_offsets: task.next_offsets(),
        session: task.session(),
        status: task.status(),
        released,
        oldest_unacked_ms: task.oldest_unacked_ms.get(),
    }
}

/// Downstream counters first: a reading that moves on meanwhile is then at worst shown as still in flight.
fn ledger(task: &Task) -> Ledger {
    let (acked, delivered) = (task.acked.get(), task.delivered.get());
    let (filtered, dead_lettered, returned) = (task.filtered.get(), task.dead_lettered.get(), task.returned.get());
    let (in_flight, received) = (task.in_flight.get(), task.received.get());
    let (redelivered, sessions_lost) = (task.redelivered.get(), task.sessions_lost.get());
    Ledger { received, delivered, filtered, dead_lettered, returned, in_flight, acked, redelivered, sessions_lost }
}

/// Equal but for the time it was taken.
fn says_the_same(a: &Checkpoint, b: &Checkpoint) -> bool {
    Checkpoint { taken_at: a.taken_at, ..b.clone() } == *a
}
