//! Nodes with real disks and real connections over loopback, each with a listener that can be cut off.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    time::{Instant, sleep},
};
use tokio_stream::wrappers::TcpListenerStream;

use crate::{
    Config, Timings, Transport,
    machine::{ApplyPipeline, Command},
    model::{ClusterId, PipelineSpec, RaftId, SourceIdentity, UnixMs},
    raft::{Group, RaftNode, WriteError},
};

/// Generous: other builds may have the machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fast elections, for tests that wait for them.
pub(super) const FAST: Timings = Timings {
    heartbeat: Duration::from_millis(50),
    election_min: Duration::from_millis(150),
    election_max: Duration::from_millis(300),
};
/// For tests in which a leader must not be lost to a busy machine.
pub(super) const STEADY: Timings = Timings {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(1_000),
    election_max: Duration::from_millis(2_000),
};

/// A node of a test.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) group: Group,
    dir: TempDir,
    transport: Transport,
    timings: Timings,
    /// The listener and its connections live on a runtime of their own, and die with it.
    server: Server,
}

impl Node {
    /// A new node with an empty disk.
    pub(super) async fn start(name: &str, timings: Timings) -> Self {
        Self::start_with(name, timings, Transport::plain()).await
    }

    pub(super) async fn start_with(name: &str, timings: Timings, transport: Transport) -> Self {
        Self::open(tempfile::tempdir().unwrap(), name, free_address().await, timings, transport).await
    }

    async fn open(dir: TempDir, name: &str, address: SocketAddr, timings: Timings, transport: Transport) -> Self {
        let config = Config { address: address.to_string(), timings, ..Config::new(dir.path(), name.parse().unwrap()) };
        let group = Group::open(&config, transport.clone()).await.unwrap();
        let mut node = Self { name: name.to_owned(), address, group, dir, transport, timings, server: Server(None) };
        node.listen();
        node
    }

    /// Takes calls, again.
    pub(super) fn listen(&mut self) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (address, service) = (self.address, self.group.service());
        let mut server = self.transport.server().unwrap();
        runtime.spawn(async move {
            let listener = loop {
                // The last listener's socket may still be closing.
                match TcpListener::bind(address).await {
                    Ok(listener) => break listener,
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            };
            server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        self.server = Server(Some(runtime));
    }

    /// Nobody reaches this node any more, which still reaches everybody.
    pub(super) fn deafen(&mut self) {
        self.server = Server(None);
    }

    /// The node is gone, without a word to anybody.
    pub(super) async fn kill(mut self) -> Dead {
        self.deafen();
        self.group.shutdown().await.unwrap();
        let Self { name, address, dir, transport, timings, .. } = self;
        Dead { name, address, dir, transport, timings }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn id(&self) -> RaftId {
        self.group.identity().raft_id
    }

    pub(super) fn as_node(&self) -> RaftNode {
        RaftNode { name: self.name.clone(), address: self.address.to_string() }
    }

    /// Names of the pipelines in its state.
    pub(super) fn pipelines(&self) -> Vec<String> {
        self.group.view(|state| state.pipelines.keys().map(ToString::to_string).collect())
    }
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Dropping a runtime waits for it, which async code must not.
struct Server(Option<Runtime>);

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What is left of a killed node.
pub(super) struct Dead {
    name: String,
    address: SocketAddr,
    dir: TempDir,
    transport: Transport,
    timings: Timings,
}

impl Dead {
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Comes back somewhere else.
    pub(super) async fn restart_elsewhere(mut self) -> Node {
        self.address = free_address().await;
        self.restart().await
    }

    pub(super) async fn restart(self) -> Node {
        Node::open(self.dir, &self.name, self.address, self.timings, self.transport).await
    }
}

pub(super) fn cluster_id() -> ClusterId {
    "c1".parse().unwrap()
}

/// `n1` to `n<count>`, all voters; the first has founded the cluster.
pub(super) async fn cluster(count: usize, timings: Timings) -> Vec<Node> {
    cluster_with(count, timings, Transport::plain).await
}

pub(super) async fn cluster_with(count: usize, timings: Timings, transport: impl Fn() -> Transport) -> Vec<Node> {
    let mut nodes = Vec::new();
    for number in 1..=count {
        nodes.push(Node::start_with(&format!("n{number}"), timings, transport()).await);
    }
    nodes[0].group.found(cluster_id()).await.unwrap();
    for node in &nodes[1..] {
        node.group.adopt(cluster_id()).await.unwrap();
        join(&nodes, node).await;
    }
    let voters: BTreeSet<_> = nodes.iter().map(Node::id).collect();
    on_leader(&nodes, async |leader| leader.group.set_voters(voters.clone()).await).await;
    eventually("all know all voters", || nodes.iter().all(|node| node.group.roles().voters == voters)).await;
    nodes
}

/// Makes `node` a learner.
pub(super) async fn join(nodes: &[Node], node: &Node) {
    on_leader(nodes, async |leader| leader.group.add_learner(node.id(), node.as_node()).await).await;
}

/// The one that leads, once one does.
pub(super) async fn leader(nodes: &[Node]) -> &Node {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(leader) = nodes.iter().find(|node| node.group.is_leading()) {
            return leader;
        }
        assert!(
            Instant::now() < deadline,
            "nobody leads: {:?}",
            nodes.iter().map(|n| n.group.roles()).collect::<Vec<_>>()
        );
        sleep(Duration::from_millis(10)).await;
    }
}

/// Does it on the leader, whoever that is by then.
pub(super) async fn on_leader<T>(nodes: &[Node], act: impl AsyncFn(&Node) -> Result<T, WriteError>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match act(leader(nodes).await).await {
            Ok(done) => return done,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// A pipeline in the state, and the log index that brought it.
pub(super) async fn write(nodes: &[Node], name: &str) -> u64 {
    write_large(nodes, name, 10).await
}

pub(super) async fn write_large(nodes: &[Node], name: &str, bytes: usize) -> u64 {
    on_leader(nodes, async |leader| leader.group.write(command(name, bytes)).await).await.1
}

pub(super) fn command(name: &str, bytes: usize) -> Command {
    let source = SourceIdentity {
        servers: vec!["mqtt://a:1883".to_owned()],
        share_group: None,
        client_id_prefix: name.to_owned(),
    };
    let spec = PipelineSpec {
        name: name.parse().unwrap(),
        shards: 1.try_into().unwrap(),
        source,
        filters: vec!["x/#".to_owned()],
        manifest: "x".repeat(bytes),
        must_keep_shards: false,
    };
    Command { proposed_at: UnixMs(1), kind: ApplyPipeline { spec }.into() }
}

pub(super) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to be: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
