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
struct Status {
    cluster_id: String,
    /// The node that answers.
    node: String,
    version: String,
    /// None: no leader is known.
    leader: Option<String>,
    term: u64,
    applied_index: u64,
    members: Vec<Member>,
}

#[derive(Debug, Serialize)]
struct Member {
    name: String,
    generation: u64,
    address: String,
    is_voter: bool,
    is_leader: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let mut client = ClusterServiceClient::new(connect(&args.remote).await?);
    let answer = client
        .get_status(request(GetStatusRequest {}))
        .await
        .map_err(|status| Failure::from_status(&status, &args.remote.admin))?;
    let status = Status::from(answer.into_inner());
    if args.remote.output == Output::Table {
        write_line(&status.summary())?;
    }
    output::print(&status, args.remote.output)
}

impl Status {
    fn summary(&self) -> String {
        format!(
            "cluster {}, answered by {} (version {}), {}, term {}, applied up to {}\n",
            self.cluster_id,
            self.node,
            self.version,
            self.leader.as_ref().map_or_else(|| "no leader known".to_owned(), |leader| format!("led by {leader}")),
            self.term,
            self.applied_index,
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
                (false, false) => "learner",
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
        Self {
            cluster_id: answer.cluster_id,
            node: answer.node,
            version: answer.version,
            leader: Some(answer.leader).filter(|leader| !leader.is_empty()),
            term: answer.term,
            applied_index: answer.applied_index,
            members: answer.members.into_iter().map(member).collect(),
        }
    }
}
