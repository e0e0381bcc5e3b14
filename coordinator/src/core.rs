//! What the parts of one node's coordinator share.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    Config,
    attach::{Attachment, stays::Stays},
    leader::report::Report,
    model::NodeName,
    plan,
    raft::Group,
    transport::Transport,
};

/// A node that has heard of a cluster founds none for so long, and is no witness that there is none: the disks of that one may be on their way
/// to other machines, and silent seeds are no sign of it where a name stands for those that are there. Far longer than that takes.
const FOUNDS_AFTER: Duration = Duration::from_secs(600);

/// Shared by the services, the leader's loop, and what keeps this node attached.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) group: Arc<Group>,
    /// Who is attached here, while this node leads.
    pub(crate) stays: Arc<Stays>,
    /// Where this node is attached.
    pub(crate) attachment: Attachment,
    pub(crate) transport: Transport,
    pub(crate) settings: Settings,
    /// What this node waits for before it is in a cluster, or what keeps it out of its own; empty: nothing.
    pub(crate) joining: watch::Sender<String>,
    /// When this node last heard of a cluster from another, before or after it was in it.
    heard_of_cluster_at: Mutex<Option<Instant>>,
    pub(crate) stop: watch::Sender<bool>,
}

/// As in [`Config`].
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) node: NodeName,
    pub(crate) cluster_name: String,
    pub(crate) address: String,
    pub(crate) admin_address: String,
    pub(crate) seeds: Vec<String>,
    pub(crate) bootstrap_expect: usize,
    pub(crate) may_found: bool,
    pub(crate) voters_max: usize,
    pub(crate) lease: Duration,
    pub(crate) keep_alive: Duration,
    /// The same at this very process: a leader's own lease is never longer than its Raft lease, one `election_max` from a heartbeat that
    /// a quorum has answered, and is to outlast two of these.
    pub(crate) own_keep_alive: Duration,
    pub(crate) propose_within: Duration,
    /// After so long without a leader's answer none is to be expected soon: longer than an election takes.
    pub(crate) silence_max: Duration,
    /// A voter that has not answered a heartbeat for so long, several of them, may be dead.
    pub(crate) heard_within: Duration,
    pub(crate) plan: plan::Settings,
}

impl Core {
    pub(crate) fn new(config: Config, group: Arc<Group>) -> Self {
        let stays = Stays::new(Arc::clone(&group), config.node.clone(), config.lease);
        let settings = Settings {
            node: config.node,
            cluster_name: config.cluster_name,
            address: config.address,
            admin_address: config.admin_address,
            seeds: config.seeds,
            bootstrap_expect: config.bootstrap_expect,
            may_found: config.may_found,
            voters_max: config.voters_max,
            lease: config.lease,
            keep_alive: config.keep_alive,
            own_keep_alive: config.keep_alive.min(config.timings.election_max / 4),
            propose_within: config.propose_within,
            silence_max: (config.lease * 2).max(config.timings.election_max * 3),
            heard_within: config.timings.election_min,
            plan: config.plan,
        };
        Self {
            group,
            stays,
            attachment: Attachment::new(),
            transport: config.transport,
            settings,
            joining: watch::Sender::default(),
            heard_of_cluster_at: Mutex::new(None),
            stop: watch::Sender::new(false),
        }
    }

    /// Somebody is in a cluster.
    pub(crate) fn hears_of_cluster(&self) {
        *self.heard_of_cluster_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long ago this node last heard of a cluster from another; None: never.
    pub(crate) fn heard_of_cluster_ago(&self) -> Option<Duration> {
        let at = *self.heard_of_cluster_at.lock().unwrap_or_else(PoisonError::into_inner);
        at.map(|at| at.elapsed())
    }

    /// How long this node, should nobody be in a cluster any more, goes on waiting for one that it has heard of; None: it does not.
    pub(crate) fn waits_for_cluster(&self) -> Option<Duration> {
        FOUNDS_AFTER.checked_sub(self.heard_of_cluster_ago()?).filter(|left| !left.is_zero())
    }

    /// Where the leader is to be reached, as far as this node knows.
    pub(crate) fn leader_address(&self) -> Option<String> {
        let attached =
            self.attachment.leader().map(|leader| leader.address.unwrap_or_else(|| self.settings.address.clone()));
        attached.or_else(|| self.group.roles().leader_address).filter(|address| !address.is_empty())
    }

    /// Who leads, as far as this node knows.
    pub(crate) fn leader_name(&self) -> Option<NodeName> {
        self.attachment.leader().map(|leader| leader.name).or_else(|| self.group.roles().leader_name)
    }

    /// Whether this node has a copy of the state of its own. What its Raft knows of itself is not enough: a node that is forgotten while
    /// it is away, or drained, is told no more, and goes on believing that it is in the group.
    pub(crate) fn is_in_group(&self) -> bool {
        if *self.attachment.in_group().borrow() == Some(false) {
            return false;
        }
        let (roles, me) = (self.group.roles(), self.group.identity().raft_id);
        (roles.voters.contains(&me) || roles.learners.contains(&me))
            && self.group.view(|state| state.cluster_id.is_some())
    }

    /// What only the leader knows; None: this node does not lead.
    pub(crate) fn own_report(&self) -> Option<Report> {
        self.group.lease_left()?;
        let (roles, me) = (self.group.roles(), self.group.identity().raft_id);
        // Before the state is read: see `Stays::health`.
        let health = self.stays.health();
        Some(self.group.view(|state| Report::new(state, health, &roles, me)))
    }
}
