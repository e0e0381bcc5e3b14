//! What every task on this node shows of itself: one writer (its lane), many readers (metrics, checkpoints, the demo's view).
//!
//! Counters are written once per batch with relaxed stores; a reader may see one counter of a batch before another.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use dashmap::DashMap;
use sluice_coordinator::model::{Checkpoint, Epoch, Offset, Revision, Session, ShardId, TopicPartition};
pub use sluice_coordinator::model::{TaskState as State, TaskStatus as Status};

/// Upper bounds of the latency buckets, in milliseconds; one more bucket holds the rest.
pub const LATENCY_BOUNDS_MS: [u64; 14] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000];

/// The tasks of this node, by shard.
#[derive(Debug, Default)]
pub struct Registry {
    tasks: DashMap<ShardId, Arc<Task>>,
}

impl Registry {
    /// Makes `task` the one that is shown for its shard.
    pub fn insert(&self, task: Arc<Task>) {
        self.tasks.insert(task.shard.clone(), task);
    }

    /// Shows the shard no more.
    pub fn remove(&self, shard: &ShardId) {
        self.tasks.remove(shard);
    }

    /// All tasks, ordered by shard.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        let mut tasks: Vec<_> = self.tasks.iter().map(|entry| Arc::clone(&entry)).collect();
        tasks.sort_by(|a, b| a.shard.cmp(&b.shard));
        tasks
    }
}

/// One task's public face.
#[derive(Debug)]
pub struct Task {
    /// The shard it runs.
    pub shard: ShardId,
    /// The assignment it runs under.
    pub epoch: Epoch,
    /// Readings decoded from MQTT.
    pub received: Meter,
    /// Of `received`, with the DUP flag.
    pub redelivered: Meter,
    /// Readings that Kafka acknowledged.
    pub delivered: Meter,
    /// Readings that a transform left out on purpose.
    pub filtered: Meter,
    /// Readings that Kafka acknowledged on the dead-letter topic.
    pub dead_lettered: Meter,
    /// Readings given back to the MQTT broker unacknowledged.
    pub returned: Meter,
    /// Readings whose PUBACK or PUBREC was written.
    pub acked: Meter,
    /// Readings handed to Kafka and not yet reported by it, counted at the sink: apart from what was received and what was delivered.
    pub in_flight: Meter,
    /// Payload and key bytes of those.
    pub in_flight_bytes: Meter,
    /// Age of the oldest reading that was received and not yet acknowledged, in milliseconds; 0: none.
    pub oldest_unacked_ms: Meter,
    /// Connections to the MQTT broker that reached CONNACK.
    pub connections: Meter,
    /// Sessions that the broker should have kept and had not.
    pub sessions_lost: Meter,
    /// From receipt to Kafka's acknowledgement.
    pub latency: Latency,
    status: Mutex<Status>,
    next_offsets: Mutex<BTreeMap<TopicPartition, Offset>>,
    session: Mutex<Option<Session>>,
}

impl Task {
    /// A task that has not done anything yet.
    pub fn new(shard: ShardId, epoch: Epoch) -> Self {
        Self {
            shard,
            epoch,
            received: Meter::default(),
            redelivered: Meter::default(),
            delivered: Meter::default(),
            filtered: Meter::default(),
            dead_lettered: Meter::default(),
            returned: Meter::default(),
            acked: Meter::default(),
            in_flight: Meter::default(),
            in_flight_bytes: Meter::default(),
            oldest_unacked_ms: Meter::default(),
            connections: Meter::default(),
            sessions_lost: Meter::default(),
            latency: Latency::default(),
            next_offsets: Mutex::default(),
            session: Mutex::default(),
            status: Mutex::new(Status { state: State::Connecting, message: String::new() }),
        }
    }

    /// What the task is doing now.
    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    /// Says what the task is doing now.
    pub fn set_status(&self, state: State, message: impl Into<String>) {
        *lock(&self.status) = Status { state, message: message.into() };
    }

    /// Goes on counting where the shard's last checkpoint stopped. What was not settled then is with the MQTT broker again.
    pub fn resume(&self, checkpoint: &Checkpoint) {
        let ledger = &checkpoint.ledger;
        let settled = ledger.delivered + ledger.filtered + ledger.dead_lettered;
        self.received.resume(ledger.received);
        self.redelivered.resume(ledger.redelivered);
        self.delivered.resume(ledger.delivered);
        self.filtered.resume(ledger.filtered);
        self.dead_lettered.resume(ledger.dead_lettered);
        self.returned.resume(ledger.received.saturating_sub(settled));
        self.acked.resume(ledger.acked);
        self.sessions_lost.resume(ledger.sessions_lost);
        lock(&self.next_offsets).clone_from(&checkpoint.next_offsets);
    }

    /// One past the highest offset that Kafka acknowledged for this shard, per partition.
    pub fn next_offsets(&self) -> BTreeMap<TopicPartition, Offset> {
        lock(&self.next_offsets).clone()
    }

    /// Takes in higher offsets.
    pub fn raise_next_offsets(&self, raised: impl Iterator<Item = (TopicPartition, Offset)>) {
        let mut offsets = lock(&self.next_offsets);
        for (partition, next) in raised {
            let known = offsets.entry(partition).or_insert(next);
            *known = next.max(*known);
        }
    }

    /// The MQTT session that the broker keeps for the shard, as far as is known.
    pub fn session(&self) -> Option<Session> {
        lock(&self.session).clone()
    }

    /// The revision of the pipeline that this session belongs to.
    pub fn opened(&self) -> Option<Revision> {
        lock(&self.session).as_ref().map(|session| session.revision)
    }

    /// Says what session the broker keeps.
    pub fn set_session(&self, session: Option<Session>) {
        *lock(&self.session) = session;
    }

    /// received − delivered − filtered − dead-lettered − returned − in flight: 0 when nothing moves, or a defect.
    pub fn unaccounted(&self) -> i64 {
        let settled = self.delivered.get() + self.filtered.get() + self.dead_lettered.get() + self.returned.get();
        self.received.get().cast_signed() - (settled + self.in_flight.get()).cast_signed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks half written: every write is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Meter {
    now: AtomicU64,
    /// What it was when the task began.
    before: AtomicU64,
}

impl Meter {
    /// The number as last written.
    pub fn get(&self) -> u64 {
        self.now.load(Relaxed)
    }

    /// Writes the number.
    pub fn set(&self, value: u64) {
        self.now.store(value, Relaxed);
    }

    /// Goes on from where an earlier task stopped.
    pub fn resume(&self, value: u64) {
        self.before.store(value, Relaxed);
        self.set(value);
    }

    /// What this task alone has counted.
    pub fn own(&self) -> u64 {
        self.get() - self.before.load(Relaxed)
    }

    /// Adds to the number. One writer: load and store, no locked instruction.
    pub fn add(&self, count: u64) {
        self.set(self.get() + count);
    }
}

/// A histogram of latencies with one writer.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [Meter; LATENCY_BOUNDS_MS.len() + 1],
    sum_us: Meter,
}

impl Latency {
    /// Counts `count` readings that took `micros` each.
    pub fn record(&self, micros: u64, count: u64) {
        let bucket = LATENCY_BOUNDS_MS.partition_point(|bound| bound * 1_000 < micros);
        self.buckets[bucket].add(count);
        self.sum_us.add(micros * count);
    }

    /// Readings per bucket, in the order of [`LATENCY_BOUNDS_MS`], the rest last.
    pub fn buckets(&self) -> [u64; LATENCY_BOUNDS_MS.len() + 1] {
        std::array::from_fn(|i| self.buckets[i].get())
    }

    /// Sum of all latencies, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "a sum of microseconds stays far below 2^52")]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us.get() as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lands_in_the_first_bucket_that_holds_it() {
        let latency = Latency::default();
        latency.record(1_000, 3);
        latency.record(1_001, 2);
        latency.record(70_000_000, 1);
        let buckets = latency.buckets();
        assert_eq!((buckets[0], buckets[1], buckets[14]), (3, 2, 1));
    }
}
