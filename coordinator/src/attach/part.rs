//! A node's part of the state: its member entry, the shards it owns, their pipelines, and from where to go on. PURE.
//!
//! A shard's checkpoint is told with its assignment. What the owner checkpoints itself it knows first, and is not told again.

use std::collections::BTreeSet;

use crate::model::{Owner, PipelineName, ShardId, State};

/// What brings a node's part from what it was told before to what it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Replaces all that was told before.
    pub is_whole: bool,
    /// New or changed entries.
    pub changed: State,
    /// Names that are not in the part any more.
    pub pipelines_removed: Vec<PipelineName>,
    /// Shards that are not.
    pub shards_removed: Vec<ShardId>,
    /// Shards whose checkpoints are not.
    pub checkpoints_removed: Vec<ShardId>,
}

/// What `owner` must be told after `told`, if only its member entry and `ids` may have changed, or any of their pipelines; None: nothing.
/// Without `told` it is the whole part, and `ids` are all that it owns.
pub(crate) fn change<'a>(
    state: &State,
    owner: &Owner,
    ids: impl IntoIterator<Item = &'a ShardId>,
    told: Option<&State>,
) -> Option<Change> {
    let nothing = State::default();
    let is_whole = told.is_none();
    let told = told.unwrap_or(&nothing);
    let mut change = Change { is_whole, ..Change::default() };
    change.changed.cluster_id.clone_from(&state.cluster_id);
    if let Some(member) = state.members.get(&owner.node).filter(|member| told.members.get(&owner.node) != Some(member))
    {
        change.changed.members.insert(owner.node.clone(), member.clone());
    }
    let mut pipelines = BTreeSet::new();
    for id in ids {
        pipelines.insert(&id.pipeline);
        change.shard(state, owner, id, told);
    }
    for name in pipelines {
        change.pipeline(state, name, told);
    }
    (is_whole || !change.is_empty()).then_some(change)
}

impl Change {
    fn shard(&mut self, state: &State, owner: &Owner, id: &ShardId, told: &State) {
        let told = told.shards.get(id);
        let Some(shard) = state.shards.get(id).filter(|shard| shard.owner.as_ref() == Some(owner)) else {
            if told.is_some() {
                self.shards_removed.push(id.clone());
                self.checkpoints_removed.push(id.clone());
            }
            return;
        };
        if told == Some(shard) {
            return;
        }
        self.changed.shards.insert(id.clone(), shard.clone());
        if told.is_some_and(|told| told.epoch == shard.epoch) {
            return;
        }
        match state.checkpoints.get(id) {
            Some(checkpoint) => drop(self.changed.checkpoints.insert(id.clone(), checkpoint.clone())),
            None if told.is_some() => self.checkpoints_removed.push(id.clone()),
            None => {}
        }
    }

    /// After the pipeline's shards.
    fn pipeline(&mut self, state: &State, name: &PipelineName, told: &State) {
        let removed: BTreeSet<_> = self.shards_removed.iter().collect();
        let has_shards =
            self.changed.shards_of(name).next().is_some() || told.shards_of(name).any(|(id, _)| !removed.contains(id));
        match state.pipelines.get(name).filter(|_| has_shards) {
            Some(pipeline) if told.pipelines.get(name) != Some(pipeline) => {
                self.changed.pipelines.insert(name.clone(), pipeline.clone());
            }
            None if told.pipelines.contains_key(name) => self.pipelines_removed.push(name.clone()),
            _ => {}
        }
    }

    fn is_empty(&self) -> bool {
        let State { members, pipelines, shards, checkpoints, .. } = &self.changed;
        members.is_empty()
            && pipelines.is_empty()
            && shards.is_empty()
            && checkpoints.is_empty()
            && self.pipelines_removed.is_empty()
            && self.shards_removed.is_empty()
            && self.checkpoints_removed.is_empty()
    }

    /// Takes the change into `part`.
    pub fn apply(self, part: &mut State) {
        if self.is_whole {
            *part = self.changed;
            return;
        }
        let State { cluster_id, members, pipelines, shards, checkpoints, .. } = self.changed;
        part.cluster_id = cluster_id;
        part.members.extend(members);
        part.pipelines.extend(pipelines);
        part.shards.extend(shards);
        part.checkpoints.extend(checkpoints);
        self.pipelines_removed.iter().for_each(|name| drop(part.pipelines.remove(name)));
        self.shards_removed.iter().for_each(|id| drop(part.shards.remove(id)));
        self.checkpoints_removed.iter().for_each(|id| drop(part.checkpoints.remove(id)));
    }
}
