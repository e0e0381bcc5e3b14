//! Asks the demo's nodes over gRPC, again and again, what they know of their cluster, as an operator would.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use sluice_proto::admin::v1::{
    ApplyPipelineRequest, Assignment, ListAssignmentsRequest, ListNodesRequest, Node, RaftRole,
    assignment_service_client::AssignmentServiceClient, node_service_client::NodeServiceClient,
    pipeline_service_client::PipelineServiceClient,
};
use tokio::{sync::watch, task::JoinHandle, time::interval};
use tonic::transport::{Channel, Endpoint};

/// How often: often enough to see every step of a takeover.
const ASK_EVERY: Duration = Duration::from_millis(150);
/// A node on this machine answers in milliseconds; one that does not is dead or on its way.
const PATIENCE: Duration = Duration::from_millis(700);
/// A proposal waits for a quorum.
const APPLY_PATIENCE: Duration = Duration::from_secs(15);

/// What the node says that was asked last and answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    /// By name.
    pub(super) nodes: Vec<Node>,
    /// By pipeline and index.
    pub(super) assignments: Vec<Assignment>,
}

impl Answer {
    /// How many nodes the leader hears.
    pub(super) fn alive(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_alive == Some(true)).count()
    }

    /// How many nodes vote.
    pub(super) fn voters(&self) -> usize {
        self.nodes.iter().filter(|node| matches!(node.role(), RaftRole::Leader | RaftRole::Voter)).count()
    }
}

/// A task that asks.
#[derive(Debug)]
pub(super) struct Observer {
    answer: watch::Receiver<Answer>,
    /// By node; they connect when they are used.
    channels: Vec<Channel>,
    task: JoinHandle<()>,
}

impl Observer {
    /// Asks the nodes with these admin listeners.
    pub(super) fn start(admin: &[SocketAddr]) -> anyhow::Result<Self> {
        let channels = admin.iter().map(|address| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
            Ok(endpoint.connect_timeout(PATIENCE).connect_lazy())
        });
        let channels: Vec<_> = channels.collect::<anyhow::Result<_>>()?;
        let (sender, answer) = watch::channel(Answer::default());
        let task = tokio::spawn(ask(channels.clone(), sender));
        Ok(Self { answer, channels, task })
    }

    /// The newest answer.
    pub(super) fn answer(&self) -> Answer {
        self.answer.borrow().clone()
    }

    /// Applies a pipeline, at the first node.
    pub(super) async fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        let channel = self.channels.first().context("there are no nodes")?.clone();
        let apply = ApplyPipelineRequest { manifest: manifest.to_owned(), dry_run: false };
        let applied = PipelineServiceClient::new(channel).apply_pipeline(request(apply, APPLY_PATIENCE)).await;
        applied.context("the demo's pipeline was not applied")?;
        Ok(())
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Stays with a node that answers and leads, and goes on to the next otherwise: only the leader is never behind.
async fn ask(channels: Vec<Channel>, answers: watch::Sender<Answer>) {
    let mut turn = interval(ASK_EVERY);
    let mut at = 0;
    while !answers.is_closed() {
        turn.tick().await;
        let asked = asked(&channels[at]).await;
        let next = match asked {
            Ok(answer) => {
                let leader = answer.nodes.iter().position(|node| node.role() == RaftRole::Leader);
                answers.send_replace(answer);
                leader
            }
            Err(status) => {
                tracing::debug!(%status, node = at, "node does not answer");
                None
            }
        };
        at = next.filter(|next| *next < channels.len()).unwrap_or((at + 1) % channels.len());
    }
}

async fn asked(channel: &Channel) -> Result<Answer, tonic::Status> {
    let mut nodes = NodeServiceClient::new(channel.clone());
    let mut assignments = AssignmentServiceClient::new(channel.clone());
    let listed = nodes.list_nodes(request(ListNodesRequest {}, PATIENCE)).await?.into_inner();
    let all = ListAssignmentsRequest { pipeline: String::new() };
    let assigned = assignments.list_assignments(request(all, PATIENCE)).await?.into_inner();
    Ok(Answer { nodes: listed.nodes, assignments: assigned.assignments })
}

fn request<T>(message: T, patience: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(patience);
    request
}
