//! The only way to wait in a test.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// What a busy machine with two cores needs at worst for anything that normally takes a second.
pub const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(50);

/// Tries until `check` succeeds; gives its last error after [`PATIENCE`].
///
/// # Errors
/// `check` did not succeed in time.
pub fn eventually<T>(what: &str, check: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    within(PATIENCE, what, check)
}

/// Tries until `check` succeeds; gives its last error after `patience`.
///
/// # Errors
/// `check` did not succeed in time.
pub fn within<T>(patience: Duration, what: &str, mut check: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= patience => {
                return Err(error).with_context(|| format!("{what}: not within {patience:?}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
