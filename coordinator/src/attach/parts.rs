//! What every attached node was told of its part. PURE.
//!
//! Work is proportional to what has changed: the state is walked only for nodes that were told nothing yet, and after a change that may
//! concern everything.

use std::collections::{BTreeMap, BTreeSet};

use super::part::{self, Change};
use crate::{
    machine::Touched,
    model::{NodeName, Owner, ShardId, State},
};

/// Nodes that are told a whole part at a time. After an election all come at once, and all their parts together are as large as the state
/// with every pipeline once for each node: the others' keep-alives, and whoever applies, must not wait for all of that.
const WHOLE_PARTS_MAX: usize = 64;

/// See the file's head.
#[derive(Debug, Default)]
pub struct Parts {
    nodes: BTreeMap<NodeName, Told>,
    /// Who was told last that a shard is its own.
    holders: BTreeMap<ShardId, NodeName>,
}

#[derive(Debug)]
struct Told {
    owner: Owner,
    /// None before the first part. Without checkpoints.
    part: Option<State>,
}

impl Parts {
    /// A node is attached and knows nothing yet, whatever it was told before.
    pub fn attach(&mut self, owner: Owner) {
        self.nodes.insert(owner.node.clone(), Told { owner, part: None });
    }

    /// A node is attached no more.
    pub fn detach(&mut self, node: &NodeName) {
        self.nodes.remove(node);
    }

    /// Whether the node was told its part, and is up to date with the last [`changes`](Self::changes).
    pub fn is_told(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(|told| told.part.is_some())
    }

    /// Whether nodes are left that were told nothing yet: the next [`changes`](Self::changes) has some of their parts.
    pub fn has_untold(&self) -> bool {
        self.nodes.values().any(|told| told.part.is_none())
    }

    /// What each node is to be told, and is taken for told from then on, when `touched` is what has changed since this was last asked.
    pub fn changes(&mut self, state: &State, touched: &Touched) -> Vec<(NodeName, Change)> {
        let mut concerned = self.owners_of_all(state, touched.is_all);
        if !touched.is_all {
            self.owners_of_touched(state, touched, &mut concerned);
        }
        let mut changes = Vec::new();
        for (node, ids) in concerned {
            let Some(told) = self.nodes.get_mut(&node) else { continue };
            let Some(mut change) = part::change(state, &told.owner, &ids, told.part.as_ref()) else { continue };
            for id in &change.shards_removed {
                if self.holders.get(id) == Some(&node) {
                    self.holders.remove(id);
                }
            }
            self.holders.extend(change.changed.shards.keys().map(|id| (id.clone(), node.clone())));
            let checkpoints = std::mem::take(&mut change.changed.checkpoints);
            change.clone().apply(told.part.get_or_insert_default());
            change.changed.checkpoints = checkpoints;
            changes.push((node, change));
        }
        changes
    }

    /// By node, every shard that is or was its own; of those nodes only that were told nothing yet, unless all are meant.
    fn owners_of_all(&self, state: &State, are_all: bool) -> BTreeMap<NodeName, BTreeSet<ShardId>> {
        let known = self.nodes.iter().filter(|(_, told)| are_all && told.part.is_some());
        let unknown = self.nodes.iter().filter(|(_, told)| told.part.is_none()).take(WHOLE_PARTS_MAX);
        let meant = known.chain(unknown);
        let had = |told: &Told| -> BTreeSet<ShardId> {
            told.part.iter().flat_map(|part| part.shards.keys().cloned()).collect()
        };
        let mut concerned: BTreeMap<_, BTreeSet<_>> = meant.map(|(node, told)| (node.clone(), had(told))).collect();
        if concerned.is_empty() {
            return concerned;
        }
        for (id, shard) in &state.shards {
            if let Some(owner) = &shard.owner
                && let Some(ids) = concerned.get_mut(&owner.node)
            {
                ids.insert(id.clone());
            }
        }
        concerned
    }

    /// Adds whom the touched entries are told, and whom they were told.
    fn owners_of_touched(
        &self,
        state: &State,
        touched: &Touched,
        concerned: &mut BTreeMap<NodeName, BTreeSet<ShardId>>,
    ) {
        for node in touched.members.iter().filter(|node| self.is_told(node)) {
            concerned.entry(node.clone()).or_default();
        }
        let of = |name| ShardId::new(name, 0)..=ShardId::new(name, u32::MAX);
        let of_pipelines = touched.pipelines.iter().flat_map(|name| {
            let held = self.holders.range(of(name)).map(|(id, _)| id);
            state.shards_of(name).map(|(id, _)| id).chain(held)
        });
        for id in touched.shards.iter().chain(of_pipelines) {
            let owner = state.shards.get(id).and_then(|shard| shard.owner.as_ref()).map(|owner| &owner.node);
            let nodes = owner.into_iter().chain(self.holders.get(id));
            for node in nodes.filter(|node| self.is_told(node)) {
                concerned.entry(node.clone()).or_default().insert(id.clone());
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        machine::{
            ApplyPipeline, AssignShards, Command, Kind, RecordCheckpoints, RegisterMember, ShardAssignment, random,
        },
        model::{
            Checkpoint, Epoch, Generation, Ledger, PipelineSpec, RaftId, SourceIdentity, TaskState, TaskStatus, UnixMs,
        },
    };

    #[derive(Default)]
    struct World {
        state: State,
        touched: Touched,
        parts: Parts,
        /// What the nodes have made of what they were told.
        nodes: BTreeMap<NodeName, (Owner, State)>,
    }

    impl World {
        fn apply(&mut self, kind: impl Into<Kind>) {
            self.touched.apply(&mut self.state, Command { proposed_at: UnixMs(1), kind: kind.into() });
        }

        fn attach(&mut self, node: &NodeName) {
            let Some(member) = self.state.members.get(node) else { return };
            let owner = Owner { node: node.clone(), generation: member.generation };
            self.parts.attach(owner.clone());
            self.nodes.insert(node.clone(), (owner, State::default()));
        }

        fn tell(&mut self) -> Vec<(NodeName, Change)> {
            let changes = self.parts.changes(&self.state, &std::mem::take(&mut self.touched));
            for (node, change) in &changes {
                let (_, part) = self.nodes.get_mut(node).unwrap();
                let before = std::mem::take(part);
                *part = before.clone();
                change.clone().apply(part);
                // With each assignment comes from where to go on.
                let is_new = |(id, epoch): &(&ShardId, Epoch)| {
                    change.is_whole || before.shards.get(*id).is_none_or(|before| before.epoch != *epoch)
                };
                for (id, _) in part.shards.iter().map(|(id, shard)| (id, shard.epoch)).filter(is_new) {
                    assert_eq!(part.checkpoints.get(id), self.state.checkpoints.get(id), "{id}");
                }
            }
            changes
        }

        /// Every node has exactly what is its own.
        fn check(&self) {
            for (node, (owner, part)) in &self.nodes {
                let mine = self.state.shards.iter().filter(|(_, shard)| shard.owner.as_ref() == Some(owner));
                let shards: BTreeMap<_, _> = mine.map(|(id, shard)| (id.clone(), shard.clone())).collect();
                let used = |name: &_| shards.keys().any(|id: &ShardId| id.pipeline == *name);
                let pipelines = self.state.pipelines.iter().filter(|(name, _)| used(name));
                let pipelines: BTreeMap<_, _> = pipelines.map(|(name, p)| (name.clone(), p.clone())).collect();
                assert!(part.checkpoints.keys().all(|id| shards.contains_key(id)));
                assert_eq!(part.shards, shards, "{node}");
                assert_eq!(part.pipelines, pipelines, "{node}");
                assert_eq!(part.members.get(node), self.state.members.get(node));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn whatever_happens_every_node_knows_what_is_its_own(draws in vec(any::<(random::Draw, u8)>(), 0..120)) {
            let mut world = World::default();
            for (draw, and_then) in draws {
                let kind = random::kind(&world.state, draw);
                world.apply(kind);
                let node = format!("n{}", and_then % 3).parse().unwrap();
                match and_then / 3 % 8 {
                    0 => world.attach(&node),
                    1 => {
                        world.parts.detach(&node);
                        world.nodes.remove(&node);
                    }
                    2..5 => {
                        world.tell();
                        world.check();
                    }
                    _ => {}
                }
            }
            world.tell();
            world.check();
            prop_assert!(world.tell().is_empty());
        }
    }

    #[test]
    fn many_nodes_at_once_are_told_some_at_a_time() {
        let mut world = World::default();
        for id in 0..100 {
            let name: NodeName = format!("n{id}").parse().unwrap();
            let (address, admin_address) = (String::new(), String::new());
            world.apply(RegisterMember { name: name.clone(), raft_id: RaftId(id), address, admin_address });
            world.attach(&name);
        }
        let rounds: Vec<_> = std::iter::repeat_with(|| world.tell().len()).take(4).collect();
        assert_eq!(rounds, [64, 36, 0, 0]);
        assert!(!world.parts.has_untold());
        world.check();
    }

    fn owner(node: &str) -> Owner {
        Owner { node: node.parse().unwrap(), generation: Generation(1) }
    }

    fn shard(index: u32) -> ShardId {
        ShardId { pipeline: "a".parse().unwrap(), index }
    }

    fn assign(world: &mut World, index: u32, node: &str) {
        let assignments = vec![ShardAssignment { shard: shard(index), owner: owner(node) }];
        world.apply(AssignShards { assignments });
    }

    fn checkpoint(world: &mut World, index: u32, node: &str, delivered: u64) {
        let checkpoint = Checkpoint {
            epoch: world.state.shards[&shard(index)].epoch,
            taken_at: UnixMs(1),
            ledger: Ledger { delivered, ..Ledger::default() },
            next_offsets: BTreeMap::new(),
            session: None,
            status: TaskStatus { state: TaskState::Running, message: String::new() },
            released: false,
            oldest_unacked_ms: 0,
        };
        world.apply(RecordCheckpoints { node: owner(node), checkpoints: vec![(shard(index), checkpoint)] });
    }

    #[test]
    fn a_node_is_not_told_its_own_checkpoints_and_the_next_owner_goes_on_from_them() {
        let mut world = World::default();
        for (node, id) in [("n1", 1), ("n2", 2)] {
            let (name, raft_id) = (node.parse().unwrap(), RaftId(id));
            world.apply(RegisterMember { name, raft_id, address: String::new(), admin_address: String::new() });
            world.attach(&node.parse().unwrap());
        }
        let (servers, client_id_prefix) = (vec!["mqtt://x".to_owned()], "a".to_owned());
        let source = SourceIdentity { servers, share_group: None, client_id_prefix };
        let (name, filters) = ("a".parse().unwrap(), vec!["x/#".to_owned()]);
        let (shards, manifest) = (2.try_into().unwrap(), String::new());
        let spec = PipelineSpec { name, shards, source, filters, manifest, must_keep_shards: false };
        world.apply(ApplyPipeline { spec });
        assign(&mut world, 0, "n1");
        assert_eq!(world.tell().len(), 2);
        checkpoint(&mut world, 0, "n1", 7);
        assert!(world.tell().is_empty());
        assign(&mut world, 0, "n2");
        let told: BTreeMap<_, _> = world.tell().into_iter().collect();
        let [(n1, before), (n2, now)] = &told.iter().collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!((n1.as_str(), n2.as_str()), ("n1", "n2"));
        assert_eq!((&before.shards_removed, before.pipelines_removed.len()), (&vec![shard(0)], 1));
        assert_eq!(now.changed.checkpoints[&shard(0)].ledger.delivered, 7);
        world.check();
    }
}
