//! Tests of what lies on the disk.

mod conformance;
mod fail_stop;
mod reopen;
mod stored_formats;
