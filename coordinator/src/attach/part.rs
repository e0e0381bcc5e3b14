//! A node's part of the state: its member entry, the shards it owns, their checkpoints and pipelines. PURE.
//!
//! The leader remembers what it has told a node and tells what has changed since; the node takes the changes in. Both hold the
//! part as a small [`State`].

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Owner, PipelineName, Shard, ShardId, State};

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

/// The shards of each of `owners`, found in one walk over the state.
pub(crate) fn by_owner<'a>(
    state: &'a State,
    owners: &BTreeSet<&Owner>,
) -> BTreeMap<&'a Owner, Vec<(&'a ShardId, &'a Shard)>> {
    let mut mine: BTreeMap<&Owner, Vec<_>> = BTreeMap::new();
    for (id, shard) in &state.shards {
        if let Some(owner) = shard.owner.as_ref().filter(|owner| owners.contains(owner)) {
            mine.entry(owner).or_default().push((id, shard));
        }
    }
    mine
}

/// What `owner`, who has `shards`, must be told after `told`; None: nothing. Without `told` it is the whole part.
pub(crate) fn change(
    state: &State,
    owner: &Owner,
    shards: &[(&ShardId, &Shard)],
    told: Option<&State>,
) -> Option<Change> {
    let nothing = State::default();
    let is_whole = told.is_none();
    let told = told.unwrap_or(&nothing);
    let mut change = Change { is_whole, ..Change::default() };
    let changed = &mut change.changed;
    let mut kept = Kept::default();
    changed.cluster_id.clone_from(&state.cluster_id);
    if let Some(member) = state.members.get(&owner.node).filter(|member| told.members.get(&owner.node) != Some(member))
    {
        changed.members.insert(owner.node.clone(), member.clone());
    }
    for (id, shard) in shards {
        kept.shards.insert(*id);
        if told.shards.get(*id) != Some(shard) {
            changed.shards.insert((*id).clone(), (*shard).clone());
        }
        if let Some((id, checkpoint)) = state.checkpoints.get_key_value(*id) {
            kept.checkpoints.insert(id);
            if told.checkpoints.get(id) != Some(checkpoint) {
                changed.checkpoints.insert(id.clone(), checkpoint.clone());
            }
        }
        if kept.pipelines.last().is_some_and(|last| **last == id.pipeline) {
            continue;
        }
        if let Some((name, pipeline)) = state.pipelines.get_key_value(&id.pipeline) {
            kept.pipelines.insert(name);
            if told.pipelines.get(name) != Some(pipeline) {
                changed.pipelines.insert(name.clone(), pipeline.clone());
            }
        }
    }
    change.pipelines_removed = told.pipelines.keys().filter(|name| !kept.pipelines.contains(name)).cloned().collect();
    change.shards_removed = told.shards.keys().filter(|id| !kept.shards.contains(id)).cloned().collect();
    change.checkpoints_removed = told.checkpoints.keys().filter(|id| !kept.checkpoints.contains(id)).cloned().collect();
    (is_whole || !change.is_empty()).then_some(change)
}

/// What of the told is still there.
#[derive(Default)]
struct Kept<'a> {
    pipelines: BTreeSet<&'a PipelineName>,
    shards: BTreeSet<&'a ShardId>,
    checkpoints: BTreeSet<&'a ShardId>,
}

impl Change {
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        machine::{self, ApplyPipeline, AssignShards, Command, DeletePipeline, Kind, RegisterMember, ShardAssignment},
        model::{Generation, PipelineSpec, RaftId, SourceIdentity, UnixMs},
    };

    fn owner(node: &str) -> Owner {
        Owner { node: node.parse().unwrap(), generation: Generation(1) }
    }

    fn apply(state: &mut State, kind: impl Into<Kind>) {
        machine::apply(state, Command { proposed_at: UnixMs(1), kind: kind.into() });
    }

    fn assign(state: &mut State, shards: &[(&str, u32)], node: &str) {
        let assignment = |(pipeline, index): &(&str, u32)| ShardAssignment {
            shard: ShardId { pipeline: pipeline.parse().unwrap(), index: *index },
            owner: owner(node),
        };
        apply(state, AssignShards { assignments: shards.iter().map(assignment).collect() });
    }

    fn cluster() -> State {
        let mut state = State::default();
        for (name, id) in [("n1", 1), ("n2", 2)] {
            let (name, address) = (name.parse().unwrap(), String::new());
            apply(
                &mut state,
                RegisterMember { name, raft_id: RaftId(id), address: address.clone(), admin_address: address },
            );
        }
        for name in ["a", "b"] {
            let (servers, client_id_prefix) = (vec!["mqtt://x".to_owned()], name.to_owned());
            let spec = PipelineSpec {
                name: name.parse().unwrap(),
                shards: 2.try_into().unwrap(),
                source: SourceIdentity { servers, share_group: None, client_id_prefix },
                filters: vec!["x/#".to_owned()],
                manifest: String::new(),
            };
            apply(&mut state, ApplyPipeline { spec });
        }
        state
    }

    /// Tells `node` what is new, and checks that its part is what a fresh whole part would be.
    fn tell(state: &State, node: &Owner, part: &mut Option<State>) -> Option<Change> {
        let owners = BTreeSet::from([node]);
        let mine = by_owner(state, &owners).remove(node).unwrap_or_default();
        let change = change(state, node, &mine, part.as_ref());
        if let Some(change) = change.clone() {
            change.apply(part.get_or_insert_default());
        }
        let whole = super::change(state, node, &mine, None).unwrap();
        assert_eq!(part.as_ref(), Some(&whole.changed));
        change
    }

    #[test]
    fn a_part_holds_what_is_ones_own_and_follows_every_change() {
        let (mut state, mut part, me) = (cluster(), None, owner("n1"));
        assert!(tell(&state, &me, &mut part).unwrap().is_whole);
        assert!(tell(&state, &me, &mut part).is_none());

        assign(&mut state, &[("a", 0), ("b", 1)], "n1");
        let change = tell(&state, &me, &mut part).unwrap();
        assert_eq!((change.changed.shards.len(), change.changed.pipelines.len(), change.is_whole), (2, 2, false));

        // What others get is none of its business.
        assign(&mut state, &[("a", 1)], "n2");
        assert!(tell(&state, &me, &mut part).is_none());

        assign(&mut state, &[("a", 0)], "n2");
        let change = tell(&state, &me, &mut part).unwrap();
        assert_eq!((change.shards_removed.len(), change.pipelines_removed.len()), (1, 1));
        assert_eq!(part.as_ref().unwrap().shards.len(), 1);

        apply(&mut state, DeletePipeline { name: "b".parse().unwrap(), discard: false });
        let change = tell(&state, &me, &mut part).unwrap();
        assert!(change.changed.shards.is_empty() && change.changed.pipelines.len() == 1);
    }

    #[test]
    fn shards_of_an_earlier_generation_are_not_ones_own() {
        let (mut state, mut part) = (cluster(), None);
        assign(&mut state, &[("a", 0)], "n1");
        let me = Owner { generation: Generation(2), ..owner("n1") };
        tell(&state, &me, &mut part);
        assert!(part.unwrap().shards.is_empty());
    }
}
