//! Metrics of the node as a whole, and, from the node that leads, of the cluster.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};
use sluice_coordinator::Overview;

/// What is shown of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeMeters {
    /// As `/readyz` says.
    pub is_ready: bool,
    /// A leader has answered it within a lease.
    pub has_leader: bool,
    /// What is wrong in `pipelines_dir`: 1 if files cannot be applied as they are, and 1 for each pipeline that was refused.
    pub pipelines_dir_errors: usize,
    /// The apiserver does not say how many replicas there are to be; None: it is not asked.
    pub statefulset_is_unreadable: Option<bool>,
    /// Where this node leads.
    pub overview: Option<Overview>,
}

/// Where they are read at each scrape.
pub trait Meters: Send + Sync + 'static {
    /// As they are now.
    fn read(&self) -> NodeMeters;
}

impl<F: Fn() -> NodeMeters + Send + Sync + 'static> Meters for F {
    fn read(&self) -> NodeMeters {
        self()
    }
}

type Gauge<T> = (&'static str, &'static str, fn(&T) -> usize);

const OF_THE_NODE: [Gauge<NodeMeters>; 4] = [
    ("sluice_node_ready", "1 while the node does its work, as /readyz says.", |node| usize::from(node.is_ready)),
    ("sluice_raft_leader", "1 on the node that leads the cluster and has a quorum.", |node| {
        usize::from(node.overview.is_some())
    }),
    (
        "sluice_node_has_leader",
        "1 while a leader answers the node; on no node: there is no quorum, and nothing can be changed.",
        |node| usize::from(node.has_leader),
    ),
    (
        "sluice_pipelines_dir_errors",
        "1 while files of pipelines_dir cannot be applied as they are, and 1 for each pipeline in it that was refused.",
        |node| node.pipelines_dir_errors,
    ),
];

const OF_THE_STATEFULSET: [Gauge<bool>; 1] = [(
    "sluice_statefulset_unreadable",
    "1 while the apiserver does not say how many replicas there are to be: a node that is scaled away would stay a member.",
    |is_unreadable| usize::from(*is_unreadable),
)];

const OF_THE_CLUSTER: [Gauge<Overview>; 5] = [
    ("sluice_nodes", "Members of the cluster. From its leader only.", |cluster| cluster.members),
    ("sluice_nodes_alive", "Members that the leader hears. From the leader only.", |cluster| cluster.alive),
    ("sluice_raft_voters", "Nodes that vote. From the leader only.", |cluster| cluster.voters),
    (
        "sluice_raft_failure_tolerance",
        "How many more voters may be lost before nothing can be changed. From the leader only.",
        |cluster| cluster.failure_tolerance,
    ),
    (
        "sluice_shards_without_node",
        "Shards that no node runs which the leader hears. From the leader only.",
        |cluster| cluster.shards_without_node,
    ),
];

/// See the file's head.
pub(super) struct Node(pub(super) Arc<dyn Meters>);

impl Collector for Node {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let node = self.0.read();
        encode(&mut encoder, &OF_THE_NODE, &node)?;
        if let Some(is_unreadable) = node.statefulset_is_unreadable {
            encode(&mut encoder, &OF_THE_STATEFULSET, &is_unreadable)?;
        }
        node.overview.map_or(Ok(()), |overview| encode(&mut encoder, &OF_THE_CLUSTER, &overview))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

fn encode<T>(encoder: &mut DescriptorEncoder<'_>, gauges: &[Gauge<T>], of: &T) -> fmt::Result {
    for (name, help, read) in gauges {
        let value = i64::try_from(read(of)).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
    }
    Ok(())
}
