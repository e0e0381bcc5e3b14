//! This machine's wall clock, as commands carry it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::UnixMs;

/// This machine's clock.
pub fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
