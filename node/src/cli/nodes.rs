//! `sluice nodes`: list, drain, fill, remove.

use clap::{ArgAction, Subcommand};
use serde::Serialize;
use sluice_proto::admin::v1::{self as admin, node_service_client::NodeServiceClient};

use super::{
    Failure, Remote,
    client::{Connection, connect, request},
    output::{self, Rows},
    text,
};

/// Shows the nodes, empties and fills them, takes them out.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the nodes with their state and what they carry
    #[command(after_help = "\
States: active, draining (an operator emptied it: it gets no shards until it is filled), stopping (it shuts down and hands its \
shards over), gone (removed). ALIVE is what the leader hears; empty: no leader answered.

Examples:
  sluice nodes list
  sluice nodes list -o json")]
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Empty a node: its shards move to others, readings in flight first
    #[command(after_help = "\
A few shards move at a time. The node stays a member, keeps its vote, and gets no shards, also when it starts again, until \
`sluice nodes fill`. The command does not wait: `sluice nodes list` shows how many shards are left.

Examples:
  sluice nodes drain sluice-2")]
    Drain {
        /// The node's name
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Give a drained node shards again
    Fill {
        /// The node's name
        name: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Take a node out of the cluster for ever
    #[command(after_help = "\
The node loses its vote, and what is on its disk can never take part again; a node with an empty disk may come under the same name. \
A node that is merely down needs nothing: its shards have moved, and it takes part when it is back. Stop the node first.

Examples:
  sluice nodes remove sluice-4 --yes
  sluice nodes remove sluice-4 --force --yes    also while it owns shards: they are taken over at once")]
    Remove {
        /// The node's name
        name: String,
        /// Also while it owns shards: what it has in flight is delivered twice
        #[arg(long)]
        force: bool,
        /// Needed, since the node's disk can never come back
        #[arg(long, required = true, action = ArgAction::SetTrue)]
        yes: bool,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Serialize)]
struct Node {
    name: String,
    state: String,
    /// None: no leader answered.
    is_alive: Option<bool>,
    stable_for_ms: Option<u64>,
    role: String,
    generation: u64,
    raft_id: u64,
    shards: u32,
    /// Of those, on their way to another node.
    leaving: u32,
    /// On their way to this one.
    coming: u32,
    address: String,
    admin_address: String,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Nodes(Vec<Node>);

/// The node that a verb was about.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct One(Node);

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List { remote } => list(&remote).await,
        Command::Drain { name, remote } => drain(name, &remote).await,
        Command::Fill { name, remote } => fill(name, &remote).await,
        Command::Remove { name, force, remote, .. } => remove(name, force, &remote).await,
    }
}

async fn list(remote: &Remote) -> Result<(), Failure> {
    let answer = client(remote).await?.list_nodes(request(admin::ListNodesRequest {})).await;
    let answer = answer.map_err(|status| Failure::from_status(&status, &remote.admin))?.into_inner();
    output::print(&Nodes(answer.nodes.into_iter().map(Node::from).collect()), remote.output)
}

async fn drain(name: String, remote: &Remote) -> Result<(), Failure> {
    let answer = client(remote).await?.drain_node(request(admin::DrainNodeRequest { name })).await;
    let node = answer.map_err(|status| Failure::from_status(&status, &remote.admin))?.into_inner().node;
    let node = node.unwrap_or_default();
    eprintln!(
        "{}: draining, {} shards to go, as far as other nodes can take them; `sluice nodes list` shows how many are left",
        node.name, node.shards
    );
    output::print(&One(node.into()), remote.output)
}

async fn fill(name: String, remote: &Remote) -> Result<(), Failure> {
    let answer = client(remote).await?.fill_node(request(admin::FillNodeRequest { name })).await;
    let node = answer.map_err(|status| Failure::from_status(&status, &remote.admin))?.into_inner().node;
    output::print(&One(node.unwrap_or_default().into()), remote.output)
}

async fn remove(name: String, force: bool, remote: &Remote) -> Result<(), Failure> {
    let answer = client(remote).await?.remove_node(request(admin::RemoveNodeRequest { name, force })).await;
    let node = answer.map_err(|status| Failure::from_status(&status, &remote.admin))?.into_inner().node;
    let node = node.unwrap_or_default();
    eprintln!("{}: removed; its disk can be thrown away", node.name);
    output::print(&One(node.into()), remote.output)
}

async fn client(remote: &Remote) -> Result<NodeServiceClient<Connection>, Failure> {
    Ok(NodeServiceClient::new(connect(remote).await?))
}

const HEADER: &[&str] =
    &["NODE", "STATE", "ALIVE", "STABLE", "ROLE", "SHARDS", "LEAVING", "COMING", "GENERATION", "ADDRESS", "ADMIN"];

impl Rows for Nodes {
    const HEADER: &'static [&'static str] = HEADER;

    fn rows(&self) -> Vec<Vec<String>> {
        self.0.iter().map(Node::row).collect()
    }
}

impl Rows for One {
    const HEADER: &'static [&'static str] = HEADER;

    fn rows(&self) -> Vec<Vec<String>> {
        vec![self.0.row()]
    }
}

impl Node {
    fn row(&self) -> Vec<String> {
        let alive = match self.is_alive {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        vec![
            self.name.clone(),
            self.state.clone(),
            alive.to_owned(),
            self.stable_for_ms.map_or_else(String::new, text::age),
            self.role.clone(),
            self.shards.to_string(),
            self.leaving.to_string(),
            self.coming.to_string(),
            self.generation.to_string(),
            self.address.clone(),
            self.admin_address.clone(),
        ]
    }
}

impl From<admin::Node> for Node {
    fn from(node: admin::Node) -> Self {
        Self {
            state: text::word(node.state().as_str_name(), "NODE_STATE_"),
            role: text::word(node.role().as_str_name(), "RAFT_ROLE_"),
            name: node.name,
            is_alive: node.is_alive,
            stable_for_ms: node.stable_for_ms,
            generation: node.generation,
            raft_id: node.raft_id,
            shards: node.shards,
            leaving: node.leaving,
            coming: node.coming,
            address: node.address,
            admin_address: node.admin_address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_the_stated_ones() -> anyhow::Result<()> {
        let node = Node::from(admin::Node {
            name: "sluice-1".to_owned(),
            state: admin::NodeState::Draining.into(),
            role: admin::RaftRole::Voter.into(),
            generation: 3,
            is_alive: Some(true),
            shards: 4,
            leaving: 2,
            address: "sluice-1:7072".to_owned(),
            ..admin::Node::default()
        });
        let expected = r#"[{"name":"sluice-1","state":"draining","is_alive":true,"stable_for_ms":null,"role":"voter","generation":3,"raft_id":0,"shards":4,"leaving":2,"coming":0,"address":"sluice-1:7072","admin_address":""}]"#;
        assert_eq!(output::json(&Nodes(vec![node]))?, expected);
        Ok(())
    }
}
