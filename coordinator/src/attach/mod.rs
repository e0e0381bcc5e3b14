//! How a node is attached to the leader: keep-alives up; its lease and its part of the state down.
//!
//! Every node attaches, the leader's own too, so that one path carries all. `stays` is the leader's side, `link` and `client` the
//! node's; `admission`, `leading`, `keep_alives`, `part`, `parts` and `round` decide and know no network.

pub(crate) mod admission;
mod client;
mod keep_alives;
mod leading;
mod lease;
mod link;
pub(crate) mod part;
mod parts;
mod round;
mod service;
pub(crate) mod stays;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

pub use admission::{Admission, Hello, Rejection};
pub(crate) use client::{Ended, run};
pub use keep_alives::KeepAlives;
pub use leading::{Answer, Down, Footing, Leading};
pub use lease::{Lease, Told};
pub use part::Change;
pub use parts::Parts;
pub(crate) use service::Service;

use crate::model::{NodeName, Owner, State};

/// The leader that this node is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) name: NodeName,
    /// None: it is this node.
    pub(crate) address: Option<String>,
}

/// What this node has been told as an attached one. Others watch; [`client::run`] alone writes, but for a rejection.
#[derive(Debug)]
pub(crate) struct Attachment {
    owner: watch::Sender<Option<Result<Owner, Rejection>>>,
    part: watch::Sender<Arc<State>>,
    held: lease::Held,
    leader: watch::Sender<Option<Leader>>,
    checkpoint_interval: watch::Sender<Duration>,
    in_group: watch::Sender<Option<bool>>,
    resigns: AtomicBool,
}

impl Attachment {
    pub(crate) fn new() -> Self {
        Self {
            owner: watch::Sender::new(None),
            part: watch::Sender::default(),
            held: lease::Held::new(),
            leader: watch::Sender::new(None),
            checkpoint_interval: watch::Sender::new(Duration::ZERO),
            in_group: watch::Sender::new(None),
            resigns: AtomicBool::new(false),
        }
    }

    /// From now on a removal is what this node has asked for itself.
    pub(crate) fn resign(&self) {
        self.resigns.store(true, Ordering::Relaxed);
    }

    /// This node in its generation, or why it cannot be part of the cluster; None before there was an answer.
    pub(crate) fn owner(&self) -> watch::Receiver<Option<Result<Owner, Rejection>>> {
        self.owner.subscribe()
    }

    /// This node can never be part of the cluster as it is.
    pub(crate) fn reject(&self, why: Rejection) {
        if !matches!(*self.owner.borrow(), Some(Err(_))) {
            if matches!(why, Rejection::Removed { .. }) && self.resigns.load(Ordering::Relaxed) {
                tracing::info!("this node is no part of the cluster any more, as it has asked");
            } else {
                tracing::error!("this node cannot be part of the cluster: {why}");
            }
        }
        self.held.end();
        self.owner.send_if_modified(|known| {
            let is_new = !matches!(known, Some(Err(known)) if *known == why);
            *known = Some(Err(why));
            is_new
        });
    }

    pub(crate) fn part(&self) -> watch::Receiver<Arc<State>> {
        self.part.subscribe()
    }

    pub(crate) fn lease(&self) -> Lease {
        self.held.handle()
    }

    /// Where this node is attached; None: nowhere just now.
    pub(crate) fn leader(&self) -> Option<Leader> {
        self.leader.borrow().clone()
    }

    pub(crate) fn checkpoint_interval(&self) -> Duration {
        *self.checkpoint_interval.borrow()
    }

    /// Whether this node is in the Raft group, as the last leader said that it was attached to; None: none has said yet.
    pub(crate) fn in_group(&self) -> watch::Receiver<Option<bool>> {
        self.in_group.subscribe()
    }

    fn set_in_group(&self, is_in_group: bool) {
        self.in_group.send_if_modified(|known| known.replace(is_in_group) != Some(is_in_group));
    }
}
