//! What a lane is given to do: a task, with all that is needed to run it once. The task stays, and comes back in another job after a failure.

use std::{path::PathBuf, sync::Arc};

use sluice_coordinator::model::{Revision, Session as Recorded};
use tokio::sync::watch;

use super::course::{Purpose, Stop};
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
