//! `sluice cluster`: who votes and how far they are; found a cluster; bring one back that has lost most of its disks.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use sluice_proto::admin::v1::{BootstrapRequest, cluster_service_client::ClusterServiceClient};

use super::{
    Failure, Remote, block_on,
    client::{connect, request},
    output::{self, Output, Rows, write_line},
    status::{self, Peer},
    text,
};

/// Shows the Raft group, and founds or recovers it.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show who votes, who follows, and how far behind they are
    #[command(after_help = "\
-o json and -o yaml print the same document as `sluice status`.

Examples:
  sluice cluster status")]
    Status {
        #[command(flatten)]
        remote: Remote,
    },
    /// Found a cluster on the node that is asked, now
    #[command(after_help = "\
A node that may found (bootstrap: true) does so by itself once bootstrap_expect nodes, and every seed, have said that they are in no cluster. \
Without --force this only tells what it still waits for.

Examples:
  sluice cluster bootstrap --admin http://10.0.0.7:7070
  sluice cluster bootstrap --admin http://10.0.0.7:7070 --force --yes")]
    Bootstrap {
        /// Do not wait for others to say that they are in no cluster either
        #[arg(long, requires = "yes")]
        force: bool,
        /// Needed with --force: if a cluster exists that this node does not see, there are two then, and both read the same MQTT
        /// sessions
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Make the node on this disk the only voter; for clusters that lost most of their voters' disks for ever
    #[command(after_help = "\
Works on the disk of a node that is stopped, without asking anybody; without --force it only says what it would do. What the lost \
voters had agreed on and this disk has not heard is gone: pipelines may be as they were before, and shards run under epochs that were \
given out already; readings are repeated, and none is lost, since the MQTT broker has what was not acknowledged. The other voters and \
learners are removed and must be stopped for ever, since together they would go on as the old cluster: wipe their disks before they \
start again. Voters that are merely down need none of this: \
start them. Take the disk that has most.

Examples:
  sluice cluster recover --data-dir /var/lib/sluice
  sluice cluster recover --data-dir /var/lib/sluice --force --yes")]
    Recover {
        /// The stopped node's `data_dir`
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Do it
        #[arg(long, requires = "yes")]
        force: bool,
        /// Needed with --force: what this disk has not heard is gone, and no other disk that voted or learned may ever be started again
        #[arg(long)]
        yes: bool,
        /// How the answer is printed
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
        output: Output,
    },
}

#[derive(Debug, Serialize)]
struct Recovered {
    cluster_id: String,
    node: String,
    raft_id: u64,
    last_log_index: u64,
    left_behind: Vec<String>,
    is_done: bool,
}

#[derive(Debug, Serialize)]
struct Founded {
    cluster_id: String,
}

/// The rows of a table that people read; programs get the whole status.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Peers<'a> {
    peers: Vec<(&'static str, &'a Peer)>,
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Status { remote } => block_on(show(remote)),
        Command::Bootstrap { force, remote, .. } => block_on(bootstrap(force, remote)),
        Command::Recover { data_dir, force, output, .. } => block_on(recover(data_dir, force, output)),
    }
}

async fn show(remote: Remote) -> Result<(), Failure> {
    let status = status::ask(&remote).await?;
    match remote.output {
        Output::Table => {
            write_line(&status.summary())?;
            let voters = status.voters.iter().map(|peer| (if peer.is_leader { "leader" } else { "voter" }, peer));
            let learners = status.learners.iter().map(|peer| ("learner", peer));
            output::print(&Peers { peers: voters.chain(learners).collect() }, Output::Table)
        }
        Output::Json => write_line(&output::json(&status)?),
        Output::Yaml => write_line(&output::yaml(&status)?),
    }
}

async fn bootstrap(force: bool, remote: Remote) -> Result<(), Failure> {
    let mut client = ClusterServiceClient::new(connect(&remote).await?);
    let answer = client.bootstrap(request(BootstrapRequest { force })).await;
    let answer = answer.map_err(|status| Failure::from_status(&status, &remote.admin))?.into_inner();
    eprintln!("founded cluster {}; other nodes join it through their seeds", answer.cluster_id);
    output::print(&Founded { cluster_id: answer.cluster_id }, remote.output)
}

async fn recover(data_dir: PathBuf, force: bool, output: Output) -> Result<(), Failure> {
    let recovered = sluice_coordinator::recover(&data_dir, force).await;
    let recovered = recovered.map_err(|error| Failure::failed(format!("data_dir {}: {error}", data_dir.display())))?;
    let left_behind = recovered.left_behind.join(", ");
    let node = &recovered.node;
    if recovered.is_done {
        eprintln!("{node} is the only voter now: start it. Wipe the disks of {left_behind} before they start again");
    } else {
        eprintln!(
            "would make {node} the only voter and leave {left_behind} behind for ever; --force --yes does it, on a disk that no other has more than"
        );
    }
    let recovered = Recovered {
        cluster_id: recovered.cluster_id.to_string(),
        node: recovered.node,
        raft_id: recovered.raft_id.0,
        last_log_index: recovered.last_log,
        left_behind: recovered.left_behind,
        is_done: recovered.is_done,
    };
    output::print(&recovered, output)
}

impl Rows for Recovered {
    const HEADER: &'static [&'static str] = &["NODE", "RAFT-ID", "LAST-LOG-INDEX", "LEFT-BEHIND", "DONE", "CLUSTER"];

    fn rows(&self) -> Vec<Vec<String>> {
        vec![vec![
            self.node.clone(),
            self.raft_id.to_string(),
            self.last_log_index.to_string(),
            self.left_behind.join(" "),
            if self.is_done { "yes" } else { "no" }.to_owned(),
            self.cluster_id.clone(),
        ]]
    }
}

impl Rows for Founded {
    const HEADER: &'static [&'static str] = &["CLUSTER"];

    fn rows(&self) -> Vec<Vec<String>> {
        vec![vec![self.cluster_id.clone()]]
    }
}

impl Rows for Peers<'_> {
    const HEADER: &'static [&'static str] = &["NODE", "ROLE", "LAG", "LAST-CONTACT", "RAFT-ID", "ADDRESS"];

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |(role, peer): &(&'static str, &Peer)| {
            vec![
                peer.name.clone(),
                (*role).to_owned(),
                peer.lag_entries.map_or_else(String::new, |lag| lag.to_string()),
                peer.last_contact_ms.map_or_else(String::new, text::age),
                peer.raft_id.to_string(),
                peer.address.clone(),
            ]
        };
        self.peers.iter().map(row).collect()
    }
}
