//! How many shards each node has, and which node is next.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Generation, MemberState, NodeName, Owner, State};

/// The active members with their loads. Ties go to the lower name.
#[derive(Debug)]
pub(super) struct Nodes<'a> {
    load: BTreeMap<&'a NodeName, (usize, Generation)>,
    by_load: BTreeSet<(usize, &'a NodeName)>,
}

impl<'a> Nodes<'a> {
    pub(super) fn active(state: &'a State) -> Self {
        let active = state.members.iter().filter(|(_, member)| member.state == MemberState::Active);
        let load: BTreeMap<_, _> = active.map(|(name, member)| (name, (0, member.generation))).collect();
        let by_load = load.keys().map(|name| (0, *name)).collect();
        Self { load, by_load }
    }

    /// Counts one shard more on `node`, if it is active.
    pub(super) fn add(&mut self, node: &NodeName) -> Option<Owner> {
        let (name, (load, generation)) = self.load.get_key_value(node)?;
        let (name, load, generation) = (*name, *load, *generation);
        self.load.insert(name, (load + 1, generation));
        self.by_load.remove(&(load, name));
        self.by_load.insert((load + 1, name));
        Some(Owner { node: name.clone(), generation })
    }

    /// The load that nobody needs to exceed once `more` shards are placed.
    pub(super) fn fair_share(&self, more: usize) -> usize {
        let placed: usize = self.load.values().map(|(load, _)| load).sum();
        (placed + more).div_ceil(self.load.len().max(1))
    }

    /// Puts a shard on `node` again unless that would lift it above `fair`.
    pub(super) fn take_back(&mut self, node: &NodeName, fair: usize) -> Option<Owner> {
        self.load.get(node).filter(|(load, _)| *load < fair)?;
        self.add(node)
    }

    /// Puts a shard on the node that has fewest.
    pub(super) fn least_loaded(&mut self) -> Option<Owner> {
        let (_, name) = *self.by_load.first()?;
        self.add(name)
    }
}
