//! Keeps this node attached: finds the leader, keeps its stay alive, takes in what it is told, and looks again when it ends.
//!
//! A leader that does not answer for half a lease is left for another, so that a lease lapses only when nobody leads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    Leader,
    admission::{Hello, Rejection},
    keep_alives::KeepAlives,
    leading::Down,
    link::Link,
    round::{Candidates, pause},
};
use crate::{
    core::Core,
    join::{self, Said},
    model::{ClusterId, Generation, Owner, State},
};

/// Rounds in which everybody who answers is of another cluster, before this node gives up: one might have met a listener that is
/// about to change hands.
const WRONG_ROUNDS_MAX: u32 = 2;

/// A node that is there answers in milliseconds, and somebody else may know the leader while another is silent.
const ASK_WITHIN: Duration = Duration::from_millis(300);
/// A leader needs a round trip to a quorum before it may answer.
const ELECTED_WITHIN: Duration = Duration::from_millis(300);
const ELECTED_LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why a node stays attached no more.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It is stopping, or can never be part of the cluster.
    ForGood,
    /// It was not taken in yet, and nobody of the cluster answers any more.
    ClusterLost,
}

/// How one stay, or the attempt at one, ended.
enum End {
    /// Trying again changes nothing.
    Rejected(Rejection),
    /// That one does not lead; it may know who does.
    NotLeader(Option<String>),
    /// The answering node is of another cluster, which may be no reason to give up.
    WrongCluster(ClusterId),
    /// It broke; true: after it had begun.
    Lost(String, bool),
    /// Nobody of a cluster that this node is not of yet has answered for long.
    ClusterLost,
    /// This node is stopping.
    Stopped,
}

/// Runs until the node stops, or can never be part of the cluster, or that is lost before it was.
pub(crate) async fn run(core: Arc<Core>, cluster: ClusterId, mut stop: watch::Receiver<bool>) -> Ended {
    let mut client = Client {
        cluster,
        life: rand::random(),
        generation: None,
        last: None,
        voters: Vec::new(),
        rounds: 0,
        wrong_rounds: 0,
        adopt_failed: false,
        lines: join::Lines::default(),
        part: Arc::default(),
        core,
        stop: stop.clone(),
    };
    loop {
        let mut leadership = client.core.group.leader_changes();
        leadership.borrow_and_update();
        match client.round().await {
            End::Stopped => return Ended::ForGood,
            End::ClusterLost => return Ended::ClusterLost,
            End::Rejected(why) => {
                let still_votes = matches!(why, Rejection::Removed { still_votes: true, .. });
                client.core.attachment.reject(why);
                if !still_votes {
                    return Ended::ForGood;
                }
                // Until then its Raft is needed, and whoever waits for that is told here.
                client.rounds = 0;
            }
            End::Lost(_, true) => client.rounds = 0,
            _ => client.rounds += 1,
        }
        let pause = pause(client.rounds, rand::random());
        tokio::select! {
            () = sleep(pause) => {}
            // Who votes hears of a new leader at once.
            Ok(()) = leadership.changed() => {}
            _ = stop.wait_for(|is_stopping| *is_stopping) => return Ended::ForGood,
        }
    }
}

struct Client {
    core: Arc<Core>,
    cluster: ClusterId,
    life: u64,
    generation: Option<Generation>,
    /// Where it was attached last.
    last: Option<String>,
    /// Where the voters were then. A node outside the group knows nobody else but its seeds, which may be long gone.
    voters: Vec<String>,
    /// Without success, since the last one.
    rounds: u32,
    wrong_rounds: u32,
    /// The disk did not take the cluster's id, which was told.
    adopt_failed: bool,
    /// While it looks for the leader.
    lines: join::Lines,
    part: Arc<State>,
    stop: watch::Receiver<bool>,
}

impl Client {
    /// Goes through everybody who may lead, until it was attached somewhere.
    async fn round(&mut self) -> End {
        let core = Arc::clone(&self.core);
        if *self.stop.borrow() {
            return End::Stopped;
        }
        if core.group.roles().leader == Some(core.group.identity().raft_id) {
            match self.patiently(None).await {
                End::NotLeader(_) => {}
                end => return end,
            }
        }
        let mut candidates = Candidates::new(&core.settings.address);
        candidates.offer(core.group.roles().leader_address);
        candidates.offer(self.last.clone());
        let (end, mut wrong) = self.try_each(&mut candidates).await;
        if let Some(end) = end {
            return end;
        }
        // Nobody whom it knows to lead does: ask others who does, voters first of all.
        let mut others = self.voters.clone();
        others.extend(join::some_of(&core, join::addresses(&core).await));
        others.retain(|address| *address != core.settings.address);
        others.sort();
        others.dedup();
        let (answers, _) = join::ask_all(&core, &mut self.lines, &others, ASK_WITHIN).await;
        for Said { leader_address, answer, address } in answers {
            match answer.cluster_id {
                Some(theirs) if theirs == self.cluster => {
                    self.wrong_rounds = 0;
                    core.hears_of_cluster();
                    candidates.prefer(leader_address);
                    candidates.offer(Some(address));
                }
                Some(theirs) => wrong = wrong.or(Some(theirs)),
                None => {}
            }
        }
        let (end, more_wrong) = self.try_each(&mut candidates).await;
        end.unwrap_or_else(|| self.judge(wrong.or(more_wrong)))
    }

    /// The leader has taken this node in: before it does anything as a part of the cluster, its disk says so.
    async fn adopt(&mut self) -> Result<(), String> {
        let adopted = self.core.group.adopt(self.cluster.clone()).await;
        match adopted {
            Ok(()) => Ok(()),
            Err(error) => {
                if !std::mem::replace(&mut self.adopt_failed, true) {
                    tracing::error!("this node cannot become part of cluster {}: {error}", self.cluster);
                }
                self.core.joining.send_replace(error.to_string());
                Err(error.to_string())
            }
        }
    }

    /// A round without success, in which somebody of another cluster answered, or not.
    fn judge(&mut self, wrong: Option<ClusterId>) -> End {
        let is_lost = self.core.heard_of_cluster_ago().is_some_and(|ago| ago >= join::LOST_AFTER);
        if self.core.group.identity().cluster_id.is_none() && is_lost {
            return End::ClusterLost;
        }
        let Some(theirs) = wrong else {
            self.wrong_rounds = 0;
            return End::NotLeader(None);
        };
        self.wrong_rounds += 1;
        let is_alone = self.generation.is_none() && self.core.group.roles().leader.is_none();
        let why = Rejection::WrongCluster { disk: self.cluster.clone(), theirs };
        if is_alone && self.wrong_rounds >= WRONG_ROUNDS_MAX {
            return End::Rejected(why);
        }
        // For /readyz, too: what keeps this node out may be the claim of an earlier cluster.
        let why = why.to_string();
        self.core.joining.send_if_modified(|known| {
            let is_new = *known != why;
            if is_new {
                tracing::warn!("{why}");
                *known = why;
            }
            is_new
        });
        End::NotLeader(None)
    }

    /// None: it was attached nowhere. Second, a cluster that is not this node's and answered.
    async fn try_each(&mut self, candidates: &mut Candidates) -> (Option<End>, Option<ClusterId>) {
        let mut wrong = None;
        while let Some(address) = candidates.next() {
            match self.patiently(Some(&address)).await {
                End::NotLeader(leader) => candidates.prefer(leader),
                End::WrongCluster(theirs) => wrong = Some(theirs),
                End::Lost(why, false) => tracing::debug!(%address, why, "not attached there"),
                end => return (Some(end), wrong),
            }
        }
        (None, wrong)
    }

    /// Attaches to a node, or to this very one. Whoever says that it leads, but not yet that it may answer, was elected a moment ago.
    async fn patiently(&mut self, address: Option<&str>) -> End {
        let own = self.core.settings.address.clone();
        let until = Instant::now() + ELECTED_WITHIN;
        loop {
            let end = match address {
                Some(address) => self.stay_at(address).await,
                None => self.stay_here().await,
            };
            match &end {
                End::NotLeader(Some(leader)) if leader == address.unwrap_or(&own) && Instant::now() < until => {
                    sleep(ELECTED_LOOK_EVERY).await;
                }
                _ => return end,
            }
        }
    }

    async fn stay_here(&mut self) -> End {
        match Link::here(&self.core.stays, self.hello()).await {
            Ok(link) => self.stay(link, None).await,
            Err(down) => refused(down),
        }
    }

    async fn stay_at(&mut self, address: &str) -> End {
        let (core, within) = (Arc::clone(&self.core), self.core.settings.lease);
        let hello = self.hello();
        let link = Link::there(&core.transport, address, self.cluster.clone(), &hello, within);
        let mut stop = self.stop.clone();
        let link = tokio::select! {
            link = link => link,
            _ = stop.wait_for(|is_stopping| *is_stopping) => return End::Stopped,
        };
        match link {
            Ok(link) => self.stay(link, Some(address.to_owned())).await,
            Err(why) => End::Lost(why, false),
        }
    }

    fn hello(&self) -> Hello {
        let settings = &self.core.settings;
        Hello {
            name: settings.node.clone(),
            raft_id: self.core.group.identity().raft_id,
            address: settings.address.clone(),
            admin_address: settings.admin_address.clone(),
            generation: self.generation,
            life: self.life,
        }
    }

    /// One stay, until it ends.
    async fn stay(&mut self, mut link: Link, address: Option<String>) -> End {
        let core = Arc::clone(&self.core);
        let mut leadership = core.group.leader_changes();
        let began_in = leadership.borrow_and_update().term;
        let mut stop = self.stop.clone();
        let mut stay =
            Stay { sent: KeepAlives::default(), is_welcome: false, patience: Instant::now() + core.settings.lease };
        let every = if link.is_here() { core.settings.own_keep_alive } else { core.settings.keep_alive };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            tokio::select! {
                told = link.next() => match told {
                    Ok(down) => {
                        let was_welcome = stay.is_welcome;
                        if matches!(down, Down::Welcome { .. })
                            && let Err(why) = self.adopt().await
                        {
                            break End::Lost(why, false);
                        }
                        if let Some(end) = self.take(&mut stay, down, address.as_deref()) {
                            break end;
                        }
                        if stay.is_welcome && !was_welcome {
                            ticks.reset_immediately();
                        }
                    }
                    Err(why) => break End::Lost(why, stay.is_welcome),
                },
                _ = ticks.tick(), if stay.is_welcome => link.keep_alive(stay.sent.send(Instant::now())),
                () = sleep_until(stay.patience.into()) => {
                    break End::Lost("no answer for half a lease".to_owned(), stay.is_welcome);
                }
                Ok(()) = leadership.changed() => {
                    // Another leads already, or this node itself: the stay is worth nothing any more.
                    if is_over(&core, began_in, &link, address.as_deref()) {
                        break End::Lost("another node leads now".to_owned(), stay.is_welcome);
                    }
                }
                () = async { drop(stop.wait_for(|is_stopping| *is_stopping).await) } => break End::Stopped,
            }
        };
        if stay.is_welcome {
            core.attachment.leader.send_replace(None);
            if let End::Lost(why, _) = &end {
                tracing::info!(
                    leader = address.as_deref().unwrap_or("this node"),
                    why,
                    "no longer attached, looking for the leader"
                );
            }
        }
        end
    }

    /// Takes in what the leader tells. Some: the stay is over.
    fn take(&mut self, stay: &mut Stay, down: Down, address: Option<&str>) -> Option<End> {
        let attachment = &self.core.attachment;
        match down {
            Down::Welcome { generation, leader, is_in_group } => {
                attachment.set_in_group(is_in_group);
                (stay.is_welcome, stay.patience) = (true, Instant::now() + self.core.settings.lease / 2);
                self.core.joining.send_if_modified(|joining| !std::mem::take(joining).is_empty());
                self.generation = Some(generation);
                self.lines = join::Lines::default();
                self.last = address.map(str::to_owned);
                let owner = Owner { node: self.core.settings.node.clone(), generation };
                attachment.owner.send_if_modified(|known| {
                    let is_new = *known != Some(Ok(owner.clone()));
                    *known = Some(Ok(owner));
                    is_new
                });
                tracing::info!(%leader, %generation, "attached");
                attachment.leader.send_replace(Some(Leader { name: leader, address: address.map(str::to_owned) }));
            }
            Down::Part(change, is_last) => {
                change.apply(Arc::make_mut(&mut self.part));
                if is_last {
                    attachment.part.send_replace(Arc::clone(&self.part));
                }
            }
            Down::Answer(answer) => {
                attachment.set_in_group(answer.is_in_group);
                if !answer.voters.is_empty() {
                    self.voters = answer.voters;
                }
                if let Some(sent_at) = stay.sent.answered(answer.number) {
                    stay.patience = Instant::now() + self.core.settings.lease / 2;
                    attachment.held.answered(sent_at, answer.lease);
                }
                let interval = answer.checkpoint_interval;
                attachment.checkpoint_interval.send_if_modified(|known| std::mem::replace(known, interval) != interval);
            }
            down @ (Down::Refused(_) | Down::NotLeader(_)) => return Some(refused(down)),
        }
        None
    }
}

/// Whether this node's own Raft knows of a leader that came after the one it is attached to.
fn is_over(core: &Core, began_in: u64, link: &Link, address: Option<&str>) -> bool {
    let roles = core.group.roles();
    let is_me = roles.leader == Some(core.group.identity().raft_id);
    roles.term > began_in
        && roles.leader.is_some()
        && (is_me != link.is_here() || (!is_me && roles.leader_address.as_deref() != address))
}

fn refused(down: Down) -> End {
    match down {
        Down::Refused(Rejection::WrongCluster { theirs, .. }) => End::WrongCluster(theirs),
        Down::Refused(why) => End::Rejected(why),
        Down::NotLeader(leader) => End::NotLeader(leader),
        other => End::Lost(format!("a stay cannot begin with {other:?}"), false),
    }
}

/// What is under way in one stay.
struct Stay {
    sent: KeepAlives,
    is_welcome: bool,
    /// When to leave, unless an answer comes before.
    patience: Instant,
}
