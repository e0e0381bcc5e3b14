//! `sluice status`: the cluster as the node that answers sees it.

use serde::Serialize;
use sluice_proto::admin::v1::{GetStatusRequest, GetStatusResponse, cluster_service_client::ClusterServiceClient};

use super::{
    Failure, Remote,
    client::{connect, request},
    output::{self, Output, Rows, write_line},
};

/// Shows the node that answers, the leader and the members.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice status
  sluice status --admin http://10.0.0.7:7070 -o json")]
pub(super) struct Args {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// None: the node is in no cluster yet.
    cluster_id: Option<String>,
    /// The node that answers.
    node: String,
    version: String,
    /// None: no leader is known.
    leader: Option<String>,
    term: u64,
    applied_index: u64,
    members: Vec<Member>,
    pub(super) voters: Vec<Peer>,
    pub(super) learners: Vec<Peer>,
    /// How many more voters may be lost.
    failure_tolerance: u32,
    pub(super) has_quorum: bool,
    nodes_alive: u32,
    /// What the node waits for before it is part of the cluster; none: it is.
    joining: Option<String>,
}

#[derive(Debug, Serialize)]
struct Member {
    name: String,
    generation: u64,
    address: String,
    is_voter: bool,
    is_leader: bool,
}

/// One of those who have the Raft log.
#[derive(Debug, Serialize)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) raft_id: u64,
    pub(super) address: String,
    pub(super) is_leader: bool,
    /// None: not known.
    pub(super) lag_entries: Option<u64>,
    pub(super) last_contact_ms: Option<u64>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let status = ask(&args.remote).await?;
    if args.remote.output == Output::Table {
        write_line(&status.summary())?;
    }
    output::print(&status, args.remote.output)
}

pub(super) async fn ask(remote: &Remote) -> Result<Status, Failure> {
    let mut client = ClusterServiceClient::new(connect(remote).await?);
    let answer = client.get_status(request(GetStatusRequest {})).await;
    Ok(answer.map_err(|status| Failure::from_status(&status, &remote.admin))?.into_inner().into())
}

impl Status {
    pub(super) fn summary(&self) -> String {
        let version = format!("answered by {} (version {})", self.node, self.version);
        let Some(cluster_id) = &self.cluster_id else {
            let waits = self.joining.as_deref().unwrap_or("it has just started");
            return format!("in no cluster yet, {version}: {waits}\n");
        };
        let led = if self.has_quorum { "led by" } else { "last led by" };
        let leader =
            self.leader.as_ref().map_or_else(|| "no leader known".to_owned(), |leader| format!("{led} {leader}"));
        let voters = self.voters.len();
        let s = if voters == 1 { "" } else { "s" };
        // Who leads knows; without a leader nobody does.
        let heard = if self.has_quorum {
            format!("{voters} voter{s}, {} of {} nodes heard: ", self.nodes_alive, self.members.len())
        } else {
            String::new()
        };
        let losses = match (self.has_quorum, self.failure_tolerance) {
            (false, _) => "NO QUORUM: what runs goes on, nothing can be changed, nothing moves".to_owned(),
            (true, 0) => "the loss of a voter stops all changes".to_owned(),
            (true, 1) => "one more voter may be lost".to_owned(),
            (true, more) => format!("{more} more voters may be lost"),
        };
        let joining = self.joining.as_ref().map_or_else(String::new, |joining| format!("\n{}: {joining}", self.node));
        format!(
            "cluster {cluster_id}, {version}, {leader}, term {}, applied up to {}\n{heard}{losses}{joining}\n",
            self.term, self.applied_index,
        )
    }
}

impl Rows for Status {
    const HEADER: &'static [&'static str] = &["MEMBER", "GENERATION", "ADDRESS", "ROLE"];

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |member: &Member| {
            let role = match (member.is_leader, member.is_voter) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) if self.learners.iter().any(|peer| peer.name == member.name) => "learner",
                (false, false) => "",
            };
            vec![member.name.clone(), member.generation.to_string(), member.address.clone(), role.to_owned()]
        };
        self.members.iter().map(row).collect()
    }
}

impl From<GetStatusResponse> for Status {
    fn from(answer: GetStatusResponse) -> Self {
        let member = |member: sluice_proto::admin::v1::Member| Member {
            name: member.name,
            generation: member.generation,
            address: member.address,
            is_voter: member.is_voter,
            is_leader: member.is_leader,
        };
        let peer = |peer: sluice_proto::admin::v1::RaftPeer| Peer {
            name: peer.name,
            raft_id: peer.raft_id,
            address: peer.address,
            is_leader: peer.is_leader,
            lag_entries: peer.lag_entries,
            last_contact_ms: peer.last_contact_ms,
        };
        Self {
            cluster_id: Some(answer.cluster_id).filter(|id| !id.is_empty()),
            node: answer.node,
            version: answer.version,
            leader: Some(answer.leader).filter(|leader| !leader.is_empty()),
            term: answer.term,
            applied_index: answer.applied_index,
            members: answer.members.into_iter().map(member).collect(),
            voters: answer.voters.into_iter().map(peer).collect(),
            learners: answer.learners.into_iter().map(peer).collect(),
            failure_tolerance: answer.failure_tolerance,
            has_quorum: answer.has_quorum,
            nodes_alive: answer.nodes_alive,
            joining: Some(answer.joining).filter(|joining| !joining.is_empty()),
        }
    }
}
