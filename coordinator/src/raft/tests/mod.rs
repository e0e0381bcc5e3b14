//! Tests of what lies on the disk, and of groups of several nodes in one process.

mod cluster;
mod conformance;
mod fail_stop;
mod failover;
mod founding;
mod membership;
mod recovery;
mod reopen;
mod stored_formats;
mod tls;
