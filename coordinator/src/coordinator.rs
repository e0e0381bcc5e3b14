//! The coordinator of one node: the handle, and what starts and stops with it.
//!
//! Started, a node is part of the Raft group or passive, joins or founds a cluster if it is in none, and attaches to the leader;
//! nothing of that is waited for. What `view` shows has been applied here; what `propose` answers is in every later `read`.

use std::{
    cmp::Reverse,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use sluice_proto::cluster::v1::node_service_server::NodeServiceServer;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tonic::transport::server::TcpIncoming;

use crate::{
    attach::{self, Ended, Lease, Rejection},
    core::Core,
    join::{self, Forced},
    leader::{
        self,
        report::{NodeReport, PeerReport},
    },
    machine::{Kind, Outcome, RemoveMember, SetMemberState},
    model::{ClusterId, MemberState, NodeName, Owner, State},
    raft::Group,
};
pub use crate::{
    clock::now,
    config::{Config, Timings},
    error::{ProposeError, StartError},
    status::{Heard, MemberStatus, Overview, Status},
};

/// How long what this node was asked may still take when it stops.
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);
/// How often a stopping node looks whether anybody is left who could take its shards.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Between two attempts to be removed.
const RESIGN_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Who lags behind the leader by no more entries, a second of a busy cluster as for a new voter, can lead after a round trip or two.
const CLOSE_WITHIN: u64 = 100;

/// The coordinator of one node. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    forced: mpsc::Sender<Forced>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Coordinator {
    /// Opens the data directory, starts Raft, serves the cluster listener. Does not wait for other nodes: see
    /// [`attached`](Self::attached).
    pub async fn start(mut config: Config) -> Result<Self, StartError> {
        let server = match config.cluster_listener.take() {
            Some(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                Some((TcpIncoming::from(listener).with_nodelay(Some(true)), config.transport.server()?))
            }
            None => None,
        };
        let group = Arc::new(Group::open(&config, config.transport.clone()).await?);
        let core = Arc::new(Core::new(config, group));
        let stop = || core.stop.subscribe();
        let mut tasks = Vec::new();
        if let Some((incoming, mut server)) = server {
            let router = server
                .add_service(core.group.service())
                .add_service(NodeServiceServer::new(attach::Service::new(Arc::clone(&core))));
            let mut stop = stop();
            tasks.push(tokio::spawn(async move {
                let stopped = async { drop(stop.wait_for(|is_stopping| *is_stopping).await) };
                if let Err(error) = router.serve_with_incoming_shutdown(incoming, stopped).await {
                    tracing::error!(%error, "the cluster listener has failed");
                }
            }));
        }
        tasks.push(tokio::spawn(leader::run(Arc::clone(&core), stop())));
        tasks.push(tokio::spawn(leader::tell(Arc::clone(&core), stop())));
        let (forced, asked) = join::channel();
        tasks.push(tokio::spawn(be_part(Arc::clone(&core), asked, stop())));
        let inner = Inner { core, forced, tasks: Mutex::new(tasks) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits until this node is attached for the first time, and tells in which generation.
    ///
    /// # Errors
    /// It can never be: its disk is of another cluster, was removed, or its name is another process's.
    pub async fn attached(&self) -> Result<Owner, StartError> {
        let (mut owner, mut stopping) = (self.inner.core.attachment.owner(), self.stopping());
        tokio::select! {
            known = owner.wait_for(Option::is_some) => match known.as_deref() {
                Ok(Some(Ok(owner))) => Ok(owner.clone()),
                Ok(Some(Err(why))) => Err(why.clone().into()),
                Ok(None) | Err(_) => Err(StartError::Stopped),
            },
            _ = stopping.wait_for(|is_stopping| *is_stopping) => Err(StartError::Stopped),
        }
    }

    /// This node's name.
    pub fn node(&self) -> &NodeName {
        &self.inner.core.settings.node
    }

    /// This node in its generation, once it was attached.
    pub fn me(&self) -> Option<Owner> {
        self.inner.core.attachment.owner().borrow().clone()?.ok()
    }

    /// What the leader has told this node: its member entry, the shards it owns, their pipelines, and the checkpoint that each shard had
    /// when it became this node's.
    pub fn part(&self) -> watch::Receiver<Arc<State>> {
        self.inner.core.attachment.part()
    }

    /// This node's lease.
    pub fn lease(&self) -> Lease {
        self.inner.core.attachment.lease()
    }

    /// Least time between two of this node's checkpoints, as the leader wants it.
    pub fn checkpoint_interval(&self) -> Duration {
        self.inner.core.attachment.checkpoint_interval()
    }

    /// Proposes a change, stamped with this node's clock, to the leader wherever it is; answers once it is applied, here too if
    /// this node has a copy of the state. Tries again while there is no leader, for [`Config::propose_within`].
    pub async fn propose(&self, kind: impl Into<Kind>) -> Result<Outcome, ProposeError> {
        self.inner.core.propose(kind.into()).await
    }

    /// Reads the state, with the Raft log index that it stands for: this node's own copy, which may be a little behind, or the
    /// leader's if it has none. Nothing is applied meanwhile, so be quick and do not call back.
    pub async fn read<T: Send>(&self, read: impl FnOnce(&State, u64) -> T + Send) -> Result<T, ProposeError> {
        if self.inner.core.is_in_group() {
            return Ok(self.view_at(read));
        }
        let (state, index) = self.inner.core.fetch_state().await?;
        Ok(read(&state, index))
    }

    /// Reads the state as applied here. Nothing is applied meanwhile, so be quick and do not call back.
    pub fn view<T>(&self, view: impl FnOnce(&State) -> T) -> T {
        self.inner.core.group.view(view)
    }

    /// As [`view`](Self::view), with the Raft log index that the state stands for.
    pub fn view_at<T>(&self, view: impl FnOnce(&State, u64) -> T) -> T {
        self.inner.core.group.view_at(view)
    }

    /// Follows the Raft log index up to which this node has applied.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.core.group.applied()
    }

    /// Turns true when the coordinator is being shut down.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.inner.core.stop.subscribe()
    }

    /// The cluster as this node sees it.
    pub fn status(&self) -> Status {
        let mut status = Status::of(&self.inner.core);
        if !self.inner.core.is_in_group() {
            // Of a node that was in the group once: how things were then.
            status.members.clear();
        }
        status
    }

    /// The cluster as its leader sees it; None: this node does not lead.
    pub fn overview(&self) -> Option<Overview> {
        Overview::of(&self.inner.core)
    }

    /// Founds a cluster on this node, although not all that it waits for have said that they are in none.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub async fn found_by_force(&self) -> Result<ClusterId, String> {
        let (answer, answered) = oneshot::channel();
        let stopping = || "this node is stopping".to_owned();
        self.inner.forced.send(answer).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }

    /// Before this node stops: has its shards handed over, and returns when it has none, when nobody else can take them, when
    /// nobody leads any more, or when `patience` is over. The node goes on releasing shards as its part changes. One that is no part of
    /// the cluster any more, or has been superseded, has nothing to say there.
    pub async fn leave(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let handed_over = async {
            tokio::select! {
                biased;
                () = self.hand_over_shards() => true,
                () = self.abandoned() => false,
            }
        };
        // Over: what is left is fenced by its epoch, and taken over when this node's lease ends.
        if !timeout(patience, handed_over).await.unwrap_or(false) {
            let shards = self.part().borrow().shards.len();
            tracing::warn!(shards, "not every shard was handed over in time");
        }
        tracing::debug!(left = ?deadline.saturating_duration_since(Instant::now()), "left");
    }

    async fn hand_over_shards(&self) {
        let mut part = self.part();
        let mut is_told = false;
        loop {
            let Some(me) = self.me() else { return };
            if part.borrow_and_update().shards.is_empty() && is_told {
                return;
            }
            if !self.has_successor().await {
                return;
            }
            if !is_told {
                let (name, generation) = (me.node, Some(me.generation));
                let stopping = SetMemberState { name, state: MemberState::Stopping, generation };
                match self.propose(stopping).await {
                    Ok(Outcome::Refused(refusal)) => {
                        tracing::info!(%refusal, "what runs here is no business of the cluster's any more");
                        return;
                    }
                    Ok(_) => is_told = true,
                    Err(error) => tracing::warn!(%error, "the cluster could not be told that this node stops"),
                }
            }
            tokio::select! {
                changed = part.changed() => if changed.is_err() { return },
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Whether some other node is alive and takes shards.
    async fn has_successor(&self) -> bool {
        let Some(report) = self.inner.core.report().await else {
            // Nobody leads: that may pass while there is patience.
            return !self.inner.core.settings.address.is_empty();
        };
        report.nodes.iter().any(|(name, node)| name != self.node() && node.is_alive && node.is_active)
    }

    /// Ends when nothing that this node says is to be heard any more: no leader has answered it for about two leases, or it is no part
    /// of the cluster. A leader that comes later is no reason to wait for one.
    pub async fn abandoned(&self) {
        let mut owner = self.inner.core.attachment.owner();
        let (lease, silence_max) = (self.lease(), self.inner.core.settings.silence_max);
        tokio::select! {
            () = lease.silent_for(silence_max) => {}
            _ = owner.wait_for(|known| matches!(known, Some(Err(_)))) => {}
        }
    }

    /// Once this node runs no shard any more, and will not come back with this disk: has it removed from the cluster, as soon as another
    /// node is there that stays, and returns when the group does not need its vote any more.
    ///
    /// # Errors
    /// Why it did not come to that within `patience`. If it was removed by then, its disk must be kept until it may be thrown away.
    pub async fn resign(&self, patience: Duration) -> Result<(), String> {
        self.inner.core.attachment.resign();
        let mut last = "nobody leads the cluster".to_owned();
        let resigned = async {
            while !self.is_removed() {
                match self.ask_to_be_removed().await {
                    Ok(()) => break,
                    Err(why) => last = why,
                }
                sleep(RESIGN_AGAIN_AFTER).await;
            }
            last = "the other voters have not taken its vote away yet".to_owned();
            self.let_go().await;
        };
        timeout(patience, resigned).await.map_err(|_| last)
    }

    async fn ask_to_be_removed(&self) -> Result<(), String> {
        // The votes of those that leave would else pass to each other, for as long as the one that stays is away.
        if !self.has_successor().await {
            return Err("no other node is there that stays".to_owned());
        }
        let Some(Owner { node: name, generation }) = self.me() else {
            return Err("this node is not attached".to_owned());
        };
        // What was not handed over is taken over, as from a node that is lost.
        let remove = RemoveMember { name, force: true, generation: Some(generation) };
        match self.propose(remove).await {
            Ok(Outcome::Member { .. }) => Ok(()),
            Ok(Outcome::Refused(refusal)) => Err(refusal.message),
            Ok(other) => Err(format!("the cluster answered {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Ends once this node's disk was removed from the cluster and the group does not need its vote: only then may the disk be thrown
    /// away, or its Raft stop for good.
    pub async fn let_go(&self) {
        let mut owner = self.inner.core.attachment.owner();
        let is_let_go = |known: &Option<Result<Owner, Rejection>>| {
            matches!(known, Some(Err(Rejection::Removed { still_votes: false, .. })))
        };
        // The sender is here: this ends only when it is so.
        drop(owner.wait_for(is_let_go).await);
    }

    /// The members that were not removed, as the leader hears them; none where nobody leads.
    pub async fn members(&self) -> Vec<Heard> {
        let nodes = self.inner.core.report().await.into_iter().flat_map(|report| report.nodes);
        nodes
            .map(|(node, NodeReport { generation, is_alive, .. })| Heard {
                owner: Owner { node, generation },
                is_alive,
            })
            .collect()
    }

    /// Whether the others still have a quorum once this node has stopped; false where nobody leads.
    pub async fn is_spared(&self) -> bool {
        let core = &self.inner.core;
        let Some(report) = core.report().await else { return false };
        let me = core.group.identity().raft_id;
        let voters = || report.peers.iter().filter(|(_, peer)| peer.is_voter);
        let is_heard = |peer: &PeerReport| peer.last_contact.is_some_and(|ago| ago < core.settings.lease);
        let others = voters().filter(|(id, peer)| **id != me && is_heard(peer)).count();
        others * 2 > voters().count()
    }

    /// If this node leads and another voter has the log, lets that one lead: one that stays, if there is one, of those the first.
    pub async fn hand_over_leadership(&self) {
        let core = &self.inner.core;
        let Some(report) = core.own_report() else { return };
        let me = core.group.identity().raft_id;
        let fit = report.peers.iter().filter(|(id, peer)| {
            **id != me && peer.is_voter && peer.last_contact.is_some_and(|ago| ago < core.settings.lease)
        });
        let rank = |peer: &PeerReport| {
            let name = peer.name.parse::<NodeName>().ok();
            let stays = name.as_ref().and_then(|name| report.nodes.get(name)).is_some_and(|node| node.is_active);
            let is_close = peer.matched.is_some_and(|matched| matched + CLOSE_WITHIN >= report.last_log);
            let ordinal = name.and_then(|name| name.ordinal()).unwrap_or(u32::MAX);
            (is_close, stays, Reverse(ordinal), peer.matched)
        };
        let Some((id, peer)) = fit.max_by_key(|(_, peer)| rank(peer)) else { return };
        // Whoever is to lead may be stopping, too; after an election's time there is another leader or none.
        match timeout(core.settings.lease * 2, core.group.transfer_leader(*id)).await {
            Ok(Ok(())) => tracing::info!(to = peer.name, "handed the leadership over"),
            Ok(Err(error)) => tracing::warn!(%error, to = peer.name, "the leadership was not handed over"),
            Err(_) => tracing::warn!(to = peer.name, "the leadership was not handed over in time"),
        }
    }

    /// Whether this node cannot go on since its disk was removed from the cluster, for ever.
    pub fn is_removed(&self) -> bool {
        matches!(*self.inner.core.attachment.owner().borrow(), Some(Err(Rejection::Removed { .. })))
    }

    /// Ends when this node cannot go on by itself; says why. Mostly the disk failed, or the node was removed.
    pub async fn failed(&self) -> String {
        let mut owner = self.inner.core.attachment.owner();
        let rejected = async {
            let rejected = owner.wait_for(|known| matches!(known, Some(Err(_)))).await;
            let why = rejected.ok().and_then(|known| known.as_ref()?.as_ref().err().map(ToString::to_string));
            match why {
                Some(why) => why,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            why = self.inner.core.group.failed() => why,
            why = rejected => why,
        }
    }

    /// Stops all that runs here, then Raft, then lets go of the data directory. Watches end. Safe to call twice.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.inner.core.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        // Calls from other nodes may never end by themselves; those that wait for Raft end with it.
        let _ = timeout(GOODBYE_WITHIN, join_all(tasks)).await;
        aborts.iter().for_each(tokio::task::AbortHandle::abort);
        self.inner.core.group.shutdown().await
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without a shutdown everything still ends, only nobody waits for it.
        self.core.stop.send_replace(true);
    }
}

/// Joins or founds a cluster if this node is in none, then stays attached.
async fn be_part(core: Arc<Core>, mut forced: mpsc::Receiver<Forced>, mut stop: watch::Receiver<bool>) {
    loop {
        let Some(cluster) = join::run(&core, &mut forced, &mut stop).await else { return };
        tokio::select! {
            // Before anybody is told of this node.
            biased;
            why = join::mixed_disk(&core) => return core.attachment.reject(why),
            ended = attach::run(Arc::clone(&core), cluster.clone(), stop.clone()) => match ended {
                Ended::ForGood => return,
                Ended::ClusterLost => {
                    tracing::warn!(%cluster, "nobody of the cluster that this node has heard of answers any more");
                }
            },
            () = join::refuse_rest(&core, &cluster, &mut forced) => return,
        }
    }
}
