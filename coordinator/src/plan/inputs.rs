//! What the planner is told besides the state: who lives, what flows, and how much may be done at a time.

use std::{collections::BTreeMap, time::Duration};

use crate::model::{Epoch, NodeName, ShardId, State, UnixMs};

/// Everything that the planner may look at besides the state.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The leader's clock; goes into the commands.
    pub now: UnixMs,
    /// How members are; one that is not here is not alive.
    pub nodes: &'a BTreeMap<NodeName, Health>,
    /// Readings a second of each shard; one that is not here carries none. Read only with [`Balance::Rate`].
    pub rates: &'a BTreeMap<ShardId, f64>,
    /// Handovers that have been under way for [`Settings::handover_deadline`], by the leader's own clock.
    pub late: &'a BTreeMap<ShardId, Late>,
    /// The operator's wishes.
    pub settings: &'a Settings,
}

/// A handover whose time is over. Another of the same shard is not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// The assignment that is to end.
    pub epoch: Epoch,
    /// Who is to get the shard.
    pub to: NodeName,
}

impl Late {
    /// The handover of `shard` that is under way, were it late.
    pub fn of(state: &State, shard: &ShardId) -> Option<Self> {
        let shard = state.shards.get(shard)?;
        Some(Self { epoch: shard.epoch, to: shard.handover.as_ref()?.to.clone() })
    }
}

/// How a member is, as the leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Its lease has not ended.
    pub is_alive: bool,
    /// How long it has been alive without a break.
    pub stable_for: Duration,
}

/// How the planner works. Every default is a trade of speed against disturbance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What is to be even. Default: the count.
    pub balance: Balance,
    /// Most planned moves under way in the cluster. Default 8: each leaves a gap in one shard, and more at once make each slower.
    pub moves_max: usize,
    /// How long a node must have been alive before shards are moved to it. Default 5 s: longer than a crash loop's turn.
    pub stable_after: Duration,
    /// How long an owner may take to release a shard before it is taken from it. Default 15 s.
    pub handover_deadline: Duration,
}

/// What is to be even among the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// The number of shards.
    Count,
    /// The number of shards, and within that the readings a second.
    Rate,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { balance: Balance::Count, moves_max: 8, stable_after: seconds(5), handover_deadline: seconds(15) }
    }
}
