//! The whole replicated state.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checkpoint, ClusterId, Epoch, Member, NodeName, Pipeline, PipelineName, RaftId, Shard, ShardId};

/// What every voter holds, entry by entry the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// None before the cluster's first command.
    pub cluster_id: Option<ClusterId>,
    /// Every node that has registered.
    pub members: BTreeMap<NodeName, Member>,
    /// What users have declared.
    pub pipelines: BTreeMap<PipelineName, Pipeline>,
    /// Every shard of every pipeline.
    pub shards: BTreeMap<ShardId, Shard>,
    /// The last checkpoint of each shard that has one.
    pub checkpoints: BTreeMap<ShardId, Checkpoint>,
    /// Highest epoch of any shard that was removed. New shards start here, so that a pipeline deleted and applied again
    /// under the same name never hands out an epoch that an old task may still carry.
    pub epoch_floor: Epoch,
    /// Raft ids of removed members, which never register again. Eight bytes a removal, so never thinned out.
    pub removed: BTreeSet<RaftId>,
}

impl State {
    /// The shards of `pipeline`, by index.
    pub fn shards_of<'a>(&'a self, pipeline: &'a PipelineName) -> impl Iterator<Item = (&'a ShardId, &'a Shard)> {
        self.shards.range(ShardId::new(pipeline, 0)..=ShardId::new(pipeline, u32::MAX))
    }
}
