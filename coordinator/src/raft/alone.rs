//! Readings of what Raft shares with everybody: one at a time on a thread.
//!
//! A reader that reads again inside waits for a writer that came between the two, which waits for the reader: for ever, and Raft
//! with them. That takes a rare moment to happen, so unit tests refuse the reading inside wherever it stands.

use std::cell::Cell;

thread_local! {
    static IS_READING: Cell<bool> = const { Cell::new(false) };
}

/// Reads, and panics in unit tests if this thread does so already.
pub(super) fn alone<T>(read: impl FnOnce() -> T) -> T {
    let _reading = cfg!(any(test, debug_assertions)).then(Reading::begin);
    read()
}

struct Reading;

impl Reading {
    fn begin() -> Self {
        assert!(!IS_READING.replace(true), "a reading inside a reading: one of them must come before the other");
        Self
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        IS_READING.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other_is_fine() {
        assert_eq!(alone(|| 1) + alone(|| 2), 3);
    }

    #[test]
    #[should_panic(expected = "a reading inside a reading")]
    fn one_inside_the_other_is_refused() {
        alone(|| alone(|| ()));
    }
}
