//! What happened when, on stderr.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Counts from its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeline {
    start: Instant,
}

impl Timeline {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// One line.
    pub(crate) fn say(&self, what: &str) {
        eprintln!("{:>9.3}  {what}", self.start.elapsed().as_secs_f64());
    }
}

/// Unix time in milliseconds, to be compared with Kafka's on the same machine.
pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
