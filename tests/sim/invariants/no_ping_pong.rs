//! Once its epoch is stale, a task reaches the broker at most once more: it was on its way then. Two nodes do not take a session from each other
//! in turns.

use std::collections::BTreeMap;

use super::{Invariant, ensure};
use crate::{
    around::Around,
    fact::{Fact, Peer},
};

#[derive(Debug, Default)]
pub(crate) struct Check {
    stale: BTreeMap<Peer, u32>,
}

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "no_ping_pong"
    }

    fn see(&mut self, fact: &Fact, around: &Around) -> Result<(), String> {
        let Fact::Connected { peer } = fact else { return Ok(()) };
        let shard = around.raft.state.shards.get(&peer.shard);
        if shard.is_some_and(|shard| shard.epoch == peer.epoch) {
            return Ok(());
        }
        let times = self.stale.entry(peer.clone()).or_default();
        *times += 1;
        ensure(*times <= 1, || format!("{peer:?} has connected {times} times although the shard is {shard:?}"))
    }
}
