//! Whole nodes with real logs and real connections, in one process. One program, since each takes a minute to build.
#![expect(clippy::unwrap_used, reason = "tests")]

mod joining;
mod members;
mod operators;
mod resigning;
mod services;
mod snapshots;
mod support;
