//! What the user declared, with the part that the coordinator itself must understand.

use std::{collections::BTreeMap, num::NonZeroU32};

use super::{PipelineName, Revision, UnixMs};

/// A pipeline as the user declared it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineSpec {
    /// Unique in the cluster.
    pub name: PipelineName,
    /// Number of member sessions in the share group.
    pub shards: NonZeroU32,
    /// Where the shards' sessions live.
    pub source: SourceIdentity,
    /// MQTT topic filters without the `$share` prefix, in the manifest's order.
    pub filters: Vec<String>,
    /// The YAML document as the user applied it. References to secrets stay references.
    pub manifest: String,
    /// Nobody has said that the broker still delivers what it had queued for a session that unsubscribes: a shard that went might
    /// take readings along.
    pub must_keep_shards: bool,
}

/// Where a shard's MQTT session lives. While it stays the same a session is kept; when it changes the old session is
/// drained and ended before a new one is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceIdentity {
    /// Broker URLs.
    pub servers: Vec<String>,
    /// None: plain subscriptions.
    pub share_group: Option<String>,
    /// The client id's part before the shard index, for example `sluice-readings`.
    pub client_id_prefix: String,
}

/// A pipeline as the cluster runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// What was applied last.
    pub spec: PipelineSpec,
    /// Starts at 1 and grows by one with each apply that changed something.
    pub revision: Revision,
    /// What the shards are meant to do.
    pub state: PipelineState,
    /// When `spec` was applied.
    pub applied_at: UnixMs,
    /// Earlier specs that some shard's session may still belong to.
    pub earlier: BTreeMap<Revision, PipelineSpec>,
}

impl Pipeline {
    /// The spec of `revision`, while it is still known.
    pub fn spec_at(&self, revision: Revision) -> Option<&PipelineSpec> {
        if revision == self.revision { Some(&self.spec) } else { self.earlier.get(&revision) }
    }
}

/// What a pipeline's shards are meant to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PipelineState {
    /// Carry readings.
    Running,
    /// Nothing; sessions stay, so the MQTT broker queues for them.
    Paused,
    /// Drain, end their sessions, go.
    Deleting,
    /// As deleting, but what the broker still queues is thrown away.
    Discarding,
}

impl PipelineState {
    /// Whether the pipeline is on its way out.
    pub fn is_ending(self) -> bool {
        matches!(self, Self::Deleting | Self::Discarding)
    }
}
