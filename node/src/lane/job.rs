//! What a lane is given to do, and how it ends.

use std::{path::PathBuf, sync::Arc, time::Instant};

use sluice_coordinator::model::{Revision, Session as Recorded};
use tokio::sync::watch;

use crate::{
    config::{Manifest, manifest::Resolved},
    lease::Permit,
    pipeline::checkpoint::Checkpointer,
    registry::Task,
};

/// One task to run.
#[derive(Debug)]
pub(crate) struct Job {
    /// Shard, epoch and meters.
    pub(crate) task: Arc<Task>,
    pub(crate) purpose: Purpose,
    /// The pipeline as the shard is to run it.
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) revision: Revision,
    /// Secrets of this node.
    pub(crate) resolved: Resolved,
    pub(crate) ca_file: Option<PathBuf>,
    /// The MQTT session's name.
    pub(crate) client_id: String,
    /// The session that the broker keeps, by the shard's last word.
    pub(crate) recorded: Option<Recorded>,
    pub(crate) checkpointer: Checkpointer,
    /// Asked for before every CONNECT.
    pub(crate) permit: Permit,
    pub(crate) stop: watch::Receiver<Option<Stop>>,
}

/// What a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Carry readings.
    Run,
    /// Unsubscribe, deliver what still comes, end the session.
    Retire,
    /// End the session at once; what the broker queues is lost.
    Discard,
}

/// Stop, keeping the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop {
    /// When to stop waiting for what is in flight.
    pub(crate) deadline: Instant,
}

/// How a task came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Asked to; `is_clean`: nothing was left in flight.
    Stopped { is_clean: bool },
    /// The session is ended at the broker.
    Retired,
    /// It cannot go on; the status says why. `may_pass`: trying again makes sense.
    Failed { may_pass: bool },
}
