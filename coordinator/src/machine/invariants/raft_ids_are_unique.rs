//! No two members share a Raft id: it is drawn once per disk.

use std::collections::BTreeMap;

use super::{Broken, ensure};
use crate::model::State;

/// See the file's head.
pub fn raft_ids_are_unique(state: &State) -> Result<(), Broken> {
    let mut seen = BTreeMap::new();
    state.members.iter().try_for_each(|(name, member)| {
        let other = seen.insert(member.raft_id, name);
        ensure(other.is_none(), || format!("members {name} and {other:?} share Raft id {}", member.raft_id))
    })
}
