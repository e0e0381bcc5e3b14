//! What the publishers, the consumer and the one who waits for them share.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{arrivals::Arrivals, oracle::Oracle};

/// The run as it goes.
#[derive(Debug)]
pub(crate) struct Progress {
    oracle: Mutex<Oracle>,
    /// When what came, for those who look for gaps.
    arrivals: Option<Mutex<Arrivals>>,
    pub(crate) clock: Clock,
    /// Distinct readings written to the MQTT broker.
    pub(crate) published: AtomicU64,
    /// Written once more after a reconnect.
    pub(crate) resent: AtomicU64,
    /// Answered with an error.
    pub(crate) refused: AtomicU64,
    /// Acknowledged with the remark that nobody was subscribed.
    pub(crate) for_nobody: AtomicU64,
    /// Those do not count as acknowledged at present, as the MQTT broker may have forgotten who subscribed.
    pub(crate) excuses_for_nobody: AtomicBool,
    /// Connections after the first.
    pub(crate) reconnects: AtomicU64,
    /// Of those, the ones at which the broker had forgotten the session.
    pub(crate) sessions_lost: AtomicU64,
    /// Publish no more.
    pub(crate) is_stopped: AtomicBool,
    /// Consume no more.
    pub(crate) is_over: AtomicBool,
    first_delivery_us: AtomicU64,
    last_delivery_us: AtomicU64,
}

impl Progress {
    pub(crate) fn new(oracle: Oracle, arrivals: Option<Arrivals>) -> Self {
        Self {
            oracle: Mutex::new(oracle),
            arrivals: arrivals.map(Mutex::new),
            clock: Clock::start(),
            published: AtomicU64::default(),
            resent: AtomicU64::default(),
            refused: AtomicU64::default(),
            for_nobody: AtomicU64::default(),
            excuses_for_nobody: AtomicBool::default(),
            reconnects: AtomicU64::default(),
            sessions_lost: AtomicU64::default(),
            is_stopped: AtomicBool::default(),
            is_over: AtomicBool::default(),
            first_delivery_us: AtomicU64::new(u64::MAX),
            last_delivery_us: AtomicU64::default(),
        }
    }

    /// The oracle; hold it for a batch, not across a wait.
    pub(crate) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When what came; none: nobody looks for gaps.
    pub(crate) fn arrivals(&self) -> Option<MutexGuard<'_, Arrivals>> {
        Some(self.arrivals.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something new arrived in Kafka.
    pub(crate) fn note_delivery(&self) {
        let now = self.clock.elapsed_us();
        self.first_delivery_us.fetch_min(now, Relaxed);
        self.last_delivery_us.fetch_max(now, Relaxed);
    }

    /// When something new last arrived in Kafka.
    pub(crate) fn last_delivery_at(&self) -> Instant {
        self.clock.instant(Duration::from_micros(self.last_delivery_us.load(Relaxed)))
    }

    /// From the first to the last delivery.
    pub(crate) fn delivering(&self) -> Duration {
        let first = self.first_delivery_us.load(Relaxed);
        Duration::from_micros(self.last_delivery_us.load(Relaxed).saturating_sub(first))
    }
}

/// Monotonic time since the start, and the wall clock's time of that start. Steps of the wall clock do not disturb.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    start_unix_ns: u64,
}

impl Clock {
    fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_unix_ns: u64::try_from(since_epoch.as_nanos()).unwrap_or(0) }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The instant `since_start` after the start.
    pub(crate) fn instant(&self, since_start: Duration) -> Instant {
        self.start + since_start
    }

    /// The same as nanoseconds of Unix time.
    pub(crate) fn unix_ns(&self, since_start: Duration) -> u64 {
        self.start_unix_ns + u64::try_from(since_start.as_nanos()).unwrap_or(0)
    }
}
