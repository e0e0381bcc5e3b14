//! Several real nodes that form one cluster, and what they say of it when asked from outside.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use sluice_proto::admin::v1::{Assignment, TaskState};

use super::{
    admin::Admin,
    certificates::Authority,
    eventually::within,
    network::Network,
    node::{Node, Site},
    ports,
};

/// A node that takes longer to answer is asked again; it may be cut off, or hang.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a cluster is set up.
#[derive(Debug, Default)]
pub struct Setup {
    pub nodes: usize,
    /// The program; none: the one that was built beside this one.
    pub program: Option<PathBuf>,
    /// Every node has its own host in it; none: all on 127.0.0.1.
    pub network: Option<Network>,
    pub has_small_disks: bool,
    /// Nodes know each other by certificates; otherwise their calls are in the clear.
    pub has_tls: bool,
    /// More lines in every node's configuration.
    pub config: String,
}

/// Nodes with their disks, and the network between them.
#[derive(Debug)]
pub struct Cluster {
    /// End before the network goes.
    nodes: Vec<Node>,
    /// Down, hung or cut off: not to be asked.
    is_out: Vec<bool>,
    pub network: Option<Network>,
    /// Its files must stay as long as nodes start.
    _authority: Option<Authority>,
}

/// A shard: pipeline and index.
pub type Shard = (String, u32);

/// What a node says of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Who says it.
    pub node: String,
    /// Empty: it knows of none.
    pub leader: String,
    pub term: u64,
    pub applied_index: u64,
    /// Members that vote.
    pub voters: usize,
    pub shards: BTreeMap<Shard, Owner>,
}

/// Who has a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Empty: nobody.
    pub node: String,
    pub epoch: u64,
    /// It carries readings, and no move is under way.
    pub is_settled: bool,
}

impl Cluster {
    /// Writes the configurations of all nodes, and starts nothing.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn prepare(setup: Setup) -> anyhow::Result<Self> {
        let mut sites = Vec::new();
        let mut seeds = Vec::new();
        for number in 0..setup.nodes {
            let site = Site {
                name: Some(format!("node-{number}")),
                program: setup.program.clone(),
                host: setup.network.as_ref().map(|network| network.host(number).clone()),
                has_small_disk: setup.has_small_disks,
            };
            seeds.push(format!("{}:{}", site.address(), ports::free()?));
            sites.push(site);
        }
        let authority = setup.has_tls.then(Authority::make).transpose()?;
        let expected = setup.nodes;
        let nodes = sites.iter().zip(&seeds).map(|(site, listen)| {
            // A single node is a cluster of one without a listener, as a user would run it.
            let cluster = if expected == 1 {
                String::new()
            } else {
                format!(
                    "cluster_listen: {listen}\nseeds: [\"{}\"]\nbootstrap_expect: {expected}\n{}",
                    seeds.join("\", \""),
                    credentials(authority.as_ref(), site)?
                )
            };
            Node::prepare_at(site, &[], &format!("{cluster}{}", setup.config))
        });
        let nodes: Vec<Node> = nodes.collect::<anyhow::Result<_>>()?;
        Ok(Self { is_out: vec![false; nodes.len()], nodes, network: setup.network, _authority: authority })
    }

    /// Starts all nodes and waits until they are ready.
    ///
    /// # Errors
    /// One does not become ready.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().try_for_each(Node::start_process)?;
        self.nodes.iter_mut().try_for_each(Node::wait_ready)
    }

    /// How many nodes there are.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// A node.
    pub fn node(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The number of a node.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn number(&self, name: &str) -> anyhow::Result<usize> {
        self.nodes.iter().position(|node| node.name() == name).with_context(|| format!("no node {name:?}"))
    }

    /// Says whether a node can be asked, from now on.
    pub fn set_out(&mut self, number: usize, is_out: bool) {
        self.is_out[number] = is_out;
    }

    /// The numbers of the nodes that can be asked.
    pub fn present(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&number| !self.is_out[number]).collect()
    }

    /// An admin client of some node that answers.
    ///
    /// # Errors
    /// None does.
    pub fn admin(&self) -> anyhow::Result<Admin> {
        let mut last = anyhow::anyhow!("all nodes are out");
        for number in self.present() {
            match Admin::connect_within(self.nodes[number].admin_address(), PATIENCE) {
                Ok(admin) => return Ok(admin),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// What the node says that knows most.
    ///
    /// # Errors
    /// None answers.
    pub fn view(&self) -> anyhow::Result<View> {
        let mut best: Option<View> = None;
        let mut last = anyhow::anyhow!("all nodes are out");
        for number in self.present() {
            match self.view_of(number) {
                Ok(view) if best.as_ref().is_none_or(|best| view.rank() > best.rank()) => best = Some(view),
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        best.ok_or(last)
    }

    /// What this node says.
    ///
    /// # Errors
    /// It does not answer.
    pub fn view_of(&self, number: usize) -> anyhow::Result<View> {
        let admin = Admin::connect_within(self.nodes[number].admin_address(), PATIENCE)?;
        let status = admin.status()?;
        let shards = admin.assignments()?.into_iter().map(|assignment| {
            let shard = (assignment.pipeline.clone(), assignment.index);
            (shard, Owner::from(assignment))
        });
        Ok(View {
            node: status.node,
            leader: status.leader,
            term: status.term,
            applied_index: status.applied_index,
            voters: status.members.iter().filter(|member| member.is_voter).count(),
            shards: shards.collect(),
        })
    }

    /// Waits until all is well: a leader, as many voters as so many nodes should have, and so many shards, each of which carries
    /// readings at a node that can be asked, every node having some.
    ///
    /// # Errors
    /// It is not, within `patience`.
    pub fn wait_well(&self, shards: usize, patience: Duration) -> anyhow::Result<View> {
        within(patience, "the cluster is well", || {
            let view = self.view()?;
            ensure!(!view.leader.is_empty(), "no leader: {view:?}");
            ensure!(view.voters == voters(self.size()), "{} voters", view.voters);
            ensure!(view.shards.len() == shards, "{} shards of {shards}", view.shards.len());
            for (shard, owner) in &view.shards {
                ensure!(owner.is_settled, "{shard:?}: {owner:?}");
                let number = self.number(&owner.node)?;
                ensure!(!self.is_out[number], "{shard:?} is at {}, which is out", owner.node);
            }
            for number in self.present() {
                let name = self.nodes[number].name();
                ensure!(!view.shards_of(name).is_empty() || shards < self.size(), "{name} has no shard: {view:?}");
            }
            Ok(view)
        })
    }
}

/// Of so many nodes: an even count survives no more losses than the odd one below it.
fn voters(nodes: usize) -> usize {
    match nodes {
        0..=2 => 1,
        3 | 4 => 3,
        _ => 5,
    }
}

fn credentials(authority: Option<&Authority>, site: &Site) -> anyhow::Result<String> {
    let Some(authority) = authority else { return Ok("cluster_insecure: true\n".to_owned()) };
    let own = authority.sign(site.name.as_deref().unwrap_or("node"), site.address())?;
    Ok(format!(
        "cluster_tls: {{ca_file: {}, cert_file: {}, key_file: {}}}\n",
        authority.file().display(),
        own.certificate.display(),
        own.key.display()
    ))
}

impl View {
    fn rank(&self) -> (u64, u64) {
        (self.term, self.applied_index)
    }

    /// The shards that a node owns.
    pub fn shards_of(&self, node: &str) -> Vec<Shard> {
        self.shards.iter().filter(|(_, owner)| owner.node == node).map(|(shard, _)| shard.clone()).collect()
    }
}

impl From<Assignment> for Owner {
    fn from(assignment: Assignment) -> Self {
        let is_running = matches!(assignment.state(), TaskState::Running | TaskState::BackPressure);
        Self {
            is_settled: is_running && !assignment.node.is_empty() && assignment.handover_to.is_empty(),
            node: assignment.node,
            epoch: assignment.epoch,
        }
    }
}
