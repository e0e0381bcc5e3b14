//! When a planned move is off without anybody saying so.

use crate::model::{NodeName, State};

/// Calls off every move from or to `node`: it has started anew, or it is gone, so what was agreed with it is void.
pub(super) fn forget_node(state: &mut State, node: &NodeName) {
    for shard in state.shards.values_mut() {
        let concerns = |to: &NodeName| to == node || shard.owner.as_ref().is_some_and(|owner| owner.node == *node);
        if shard.handover.as_ref().is_some_and(|handover| concerns(&handover.to)) {
            shard.handover = None;
        }
    }
}
