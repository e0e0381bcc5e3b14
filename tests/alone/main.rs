//! Tests that need the machine for themselves: clusters of several nodes, and figures such as how long a shard was silent. A program
//! of their own, as Cargo runs one test program after the other, and in it one test at a time. `tests/README.md` says how to run one.

mod chaos;
mod ping_pong;
mod quorum;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// To be held by each test to its end.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed is over all the same.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
