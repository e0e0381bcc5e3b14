//! How a node becomes part of a cluster: it asks its seeds, again and again, and joins the cluster they are in, or founds one.
//!
//! What it decides on is in `decide`. A disk that has a cluster's id is past all this; one gets it when the cluster's leader has taken the
//! node in, since a cluster that one has only heard of may be lost by then.

mod decide;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use rand::seq::SliceRandom as _;
use sluice_proto::cluster::v1::{ProbeRequest, ProbeResponse, node_service_client::NodeServiceClient};
use tokio::{
    net::lookup_host,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tonic::{Request, transport::Channel};

pub(crate) use decide::Answer;
use decide::{Decision, Me, decide};

use crate::{
    attach::Rejection,
    core::Core,
    model::{ClusterId, RaftId},
    raft::JoinError,
    transport::why,
};

/// A node that is up answers in milliseconds; one that does not is silent for this round.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Between two rounds: a node that starts is found within half a second.
const ROUND_EVERY: Duration = Duration::from_millis(400);
/// Whom a round asks at most, where one answer does. Of a thousand nodes that look for the leader at once each is asked by sixteen, and
/// what one of them knows all know after a few rounds.
const ASKED_MAX: usize = 16;
/// Whose nodes have been silent for so long, that cluster is not the only one to be joined any more: far longer than an election.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(10);
/// How often is told what is being waited for.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What a node said when it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// Where it was asked.
    pub(crate) address: String,
    pub(crate) answer: Answer,
    /// Where it believes the leader to be.
    pub(crate) leader_address: Option<String>,
}

/// An operator wants a cluster founded here and now; the answer says which, or why not.
pub(crate) type Forced = oneshot::Sender<Result<ClusterId, String>>;

/// Runs until this node knows of a cluster, by its disk or from others, which it returns. None: the node is stopping.
pub(crate) async fn run(
    core: &Core,
    forced: &mut mpsc::Receiver<Forced>,
    stop: &mut watch::Receiver<bool>,
) -> Option<ClusterId> {
    let (mut told_at, mut by_force, mut lines) = (None, None, Lines::default());
    loop {
        if let Some(cluster) = core.group.identity().cluster_id {
            core.joining.send_replace(String::new());
            answer(by_force.take(), Err(format!("this node is in cluster {cluster}")));
            return Some(cluster);
        }
        let round = round(core, &mut lines, by_force.is_some());
        let done = tokio::select! {
            done = round => done,
            _ = stop.wait_for(|is_stopping| *is_stopping) => return None,
        };
        match done {
            Ok(cluster) => {
                let is_in = core.group.identity().cluster_id.is_some();
                core.joining.send_replace(if is_in {
                    String::new()
                } else {
                    format!("the leader of cluster {cluster}, which answers here, has not taken this node in yet")
                });
                answer(
                    by_force.take(),
                    if is_in { Ok(cluster.clone()) } else { Err(format!("this node is joining cluster {cluster}")) },
                );
                return Some(cluster);
            }
            Err(why) => {
                answer(by_force.take(), Err(why.clone()));
                if told_at.is_none_or(|at: Instant| at.elapsed() >= TELL_EVERY) {
                    tracing::info!("waiting to be part of a cluster: {why}");
                    told_at = Some(Instant::now());
                }
                core.joining.send_replace(why);
            }
        }
        tokio::select! {
            () = sleep(ROUND_EVERY) => {}
            Some(forced) = forced.recv() => by_force = Some(forced),
            _ = stop.wait_for(|is_stopping| *is_stopping) => return None,
        }
    }
}

fn answer(forced: Option<Forced>, answer: Result<ClusterId, String>) {
    if let Some(forced) = forced {
        // Whoever asked may have lost patience.
        drop(forced.send(answer));
    }
}

/// Asks everybody, decides, and does it. Err: what to wait for.
async fn round(core: &Core, lines: &mut Lines, is_forced: bool) -> Result<ClusterId, String> {
    let settings = &core.settings;
    let mut addresses = addresses(core).await;
    if !settings.may_found && !is_forced {
        // Any that is in a cluster will do; only who founds one must hear everybody.
        addresses = some_of(core, addresses);
    }
    let (answers, silent) = ask_all(core, lines, &addresses, ANSWER_WITHIN).await;
    let me = Me {
        name: settings.node.clone(),
        raft_id: core.group.identity().raft_id,
        may_found: settings.may_found,
        expect: settings.bootstrap_expect,
        is_forced,
        cluster_name: settings.cluster_name.clone(),
    };
    let answers: Vec<_> = answers.into_iter().map(|said| said.answer).collect();
    let text = |error: JoinError| error.to_string();
    match decide(&me, &answers, &silent) {
        Decision::Join(cluster) => {
            core.hears_of_cluster();
            tracing::info!(%cluster, "joining a cluster");
            Ok(cluster)
        }
        Decision::Found if core.group.is_pristine() => {
            if let Some(left) = core.waits_for_cluster().filter(|_| !is_forced) {
                return Err(format!(
                    "a cluster was heard of, none of whose nodes answers now; if none comes in {left:.0?} a new one is founded, \
                     and at once if all of its nodes are lost for good and this one is restarted"
                ));
            }
            let cluster = draw();
            core.group.found(cluster.clone()).await.map_err(text)?;
            Ok(cluster)
        }
        Decision::Found => Err("this disk was in use before and may not found a cluster".to_owned()),
        Decision::Wait(why) => Err(why),
    }
}

fn draw() -> ClusterId {
    match format!("{:032x}", rand::random::<u128>()).parse() {
        Ok(cluster) => cluster,
        Err(error) => unreachable!("32 hexadecimal digits are a name: {error}"),
    }
}

/// Connections to those who are asked, for as long as somebody goes on asking: most of them are never needed again.
#[derive(Debug, Default)]
pub(crate) struct Lines(BTreeMap<String, Channel>);

impl Lines {
    fn to(&mut self, core: &Core, address: &str) -> Option<Channel> {
        if let Some(line) = self.0.get(address) {
            return Some(line.clone());
        }
        let line = core.transport.passing(address).ok()?;
        self.0.insert(address.to_owned(), line.clone());
        Some(line)
    }
}

/// Asks everybody at once. Second, who gave no answer.
pub(crate) async fn ask_all(
    core: &Core,
    lines: &mut Lines,
    addresses: &[String],
    within: Duration,
) -> (Vec<Said>, Vec<String>) {
    let asked: BTreeSet<_> = addresses.iter().collect();
    lines.0.retain(|address, _| asked.contains(address));
    let said = join_all(addresses.iter().map(|address| ask_on(core, lines.to(core, address), address, within))).await;
    let me = core.group.identity().raft_id;
    let silent = addresses.iter().zip(&said).filter_map(|(address, said)| Some(silence(address, said.as_ref().err()?)));
    let silent = silent.collect();
    (said.into_iter().flatten().filter(|said| said.answer.raft_id != me).collect(), silent)
}

/// Asks one who is there, on the kept connection.
pub(crate) async fn ask(core: &Core, address: &str, within: Duration) -> Option<Said> {
    ask_on(core, core.transport.channel(address).ok(), address, within).await.ok()
}

/// Err: why there is no answer; empty where that says nothing.
async fn ask_on(core: &Core, line: Option<Channel>, address: &str, within: Duration) -> Result<Said, String> {
    let mut client = NodeServiceClient::new(line.ok_or("no address")?);
    let request = Request::new(ProbeRequest { name: core.settings.node.to_string() });
    let asked = timeout(within, client.probe(request)).await.map_err(|_| String::new())?;
    let ProbeResponse { cluster_id, raft_id, name, is_pristine, leader_address, may_found, cluster_name } =
        asked.map_err(|status| why(&status))?.into_inner();
    let unreadable = |error: String| format!("its answer cannot be read: {error}");
    let cluster_id = Some(cluster_id).filter(|id| !id.is_empty()).map(|id| id.parse()).transpose();
    let cluster_id = cluster_id.map_err(|error| unreadable(format!("{error}")))?;
    let name = name.parse().map_err(|error| unreadable(format!("{error}")))?;
    let answer = Answer { name, raft_id: RaftId(raft_id), cluster_id, is_pristine, may_found, cluster_name };
    let leader_address = Some(leader_address).filter(|address| !address.is_empty());
    Ok(Said { address: address.to_owned(), answer, leader_address })
}

/// A silent address, with what is known of why: a certificate that is refused is no network that is down.
fn silence(address: &str, why: &str) -> String {
    if why.is_empty() { address.to_owned() } else { format!("{address} ({why})") }
}

/// Where other nodes may be: the seeds, as they resolve now, and every address that this disk knows.
pub(crate) async fn addresses(core: &Core) -> Vec<String> {
    let resolved = join_all(core.settings.seeds.iter().map(|seed| resolve(seed))).await;
    let mut all: BTreeSet<String> = resolved.into_iter().flatten().collect();
    core.group.view(|state| all.extend(state.members.values().map(|member| member.address.clone())));
    all.extend(core.group.roles().nodes.into_values().map(|node| node.address));
    all.extend(core.attachment.part().borrow().members.values().map(|member| member.address.clone()));
    all.retain(|address| !address.is_empty() && *address != core.settings.address);
    all.into_iter().collect()
}

/// The voters and learners that this node knows of, and by chance as many of the others as a round may ask.
pub(crate) fn some_of(core: &Core, addresses: Vec<String>) -> Vec<String> {
    choose(&core.group.roles().nodes.into_values().map(|node| node.address).collect(), addresses)
}

fn choose(group: &BTreeSet<String>, addresses: Vec<String>) -> Vec<String> {
    let (mut some, mut others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| group.contains(address));
    let (chosen, _) = others.partial_shuffle(&mut rand::rng(), ASKED_MAX);
    some.extend(chosen.iter_mut().map(std::mem::take));
    some
}

/// A name that stands for one address stays a name, so that a certificate can be checked against it; one for several, as a
/// headless service's, becomes those.
async fn resolve(seed: &str) -> Vec<String> {
    match timeout(ANSWER_WITHIN, lookup_host(seed)).await {
        Ok(Ok(found)) => {
            let found: BTreeSet<_> = found.collect();
            if found.len() > 1 { found.iter().map(ToString::to_string).collect() } else { vec![seed.to_owned()] }
        }
        // Said to be silent, by its name.
        _ => vec![seed.to_owned()],
    }
}

/// That this node's disk is of the same cluster in both of its parts.
pub(crate) fn check_disk(core: &Core) -> Result<(), Rejection> {
    let disk = core.group.identity().cluster_id;
    let state = core.group.view(|state| state.cluster_id.clone());
    match (disk, state) {
        (Some(disk), Some(state)) if disk != state => Err(Rejection::TwoClusters { disk, state }),
        _ => Ok(()),
    }
}

/// Ends once it is known that the disk was put together from two clusters. What is sound stays so: a state's cluster never changes.
pub(crate) async fn mixed_disk(core: &Core) -> Rejection {
    let mut applied = core.group.applied();
    loop {
        applied.borrow_and_update();
        if let Err(why) = check_disk(core) {
            return why;
        }
        if core.group.view(|state| state.cluster_id.is_some()) || applied.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Starts the task's ends: requests to found a cluster wait one at a time.
pub(crate) fn channel() -> (mpsc::Sender<Forced>, mpsc::Receiver<Forced>) {
    mpsc::channel(1)
}

/// Whoever asks for a cluster once there is one is told so. Ends when nobody can ask any more.
pub(crate) async fn refuse_rest(core: &Core, heard_of: &ClusterId, forced: &mut mpsc::Receiver<Forced>) {
    while let Some(asked) = forced.recv().await {
        let why = match core.group.identity().cluster_id {
            Some(cluster) => format!("this node is in cluster {cluster}"),
            None => {
                format!("this node is joining cluster {heard_of}; if all of that are lost, stop it, and start it again")
            }
        };
        answer(Some(asked), Err(why));
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_asks_the_group_and_few_others_and_not_always_the_same() {
        let address = |number: usize| format!("n-{number}:7073");
        let group: BTreeSet<_> = (0..5).map(address).collect();
        let choose = |count| choose(&group, (0..count).map(address).collect()).into_iter().collect::<BTreeSet<_>>();
        assert_eq!(choose(20), (0..20).map(address).collect());
        let some = choose(1_000);
        assert_eq!(some.len(), 5 + ASKED_MAX);
        assert!(some.is_superset(&group));
        assert_ne!(some, choose(1_000), "by chance the same, once in 10^34");
    }
}
