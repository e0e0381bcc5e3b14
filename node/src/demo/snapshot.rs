//! Everything that one moment of the demo shows.

use std::time::Duration;

use super::{
    cluster::Face,
    tally::{Latency, Tally, Totals},
};
use crate::registry::{State, Task};

/// One moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// Since the start.
    pub(super) elapsed: Duration,
    /// What sensors and witness say.
    pub(super) totals: Totals,
    /// Of the last second.
    pub(super) latency: Latency,
    /// What the nodes say.
    pub(super) carriers: Carriers,
}

/// The node, or the nodes.
#[derive(Debug, Clone)]
pub(super) enum Carriers {
    /// One, by shard.
    Node(Vec<Shard>),
    Cluster(Face),
}

/// A shard as its task shows it.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) message: String,
    pub(super) ledger: Ledger,
    pub(super) oldest_unacked_ms: u64,
}

/// Readings of one shard, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) received: u64,
    pub(super) delivered: u64,
    pub(super) dead_lettered: u64,
    pub(super) returned: u64,
    pub(super) in_flight: u64,
    pub(super) acked: u64,
    pub(super) unaccounted: i64,
}

impl Snapshot {
    /// Reads the tally.
    pub(super) fn take(tally: &mut Tally, carriers: Carriers, elapsed: Duration) -> Self {
        Self { elapsed, totals: tally.totals(), latency: tally.recent_latency(elapsed), carriers }
    }
}

impl Shard {
    /// What a task shows.
    pub(super) fn of(task: &Task) -> Self {
        let status = task.status();
        Self {
            name: task.shard.to_string(),
            state: status.state,
            message: status.message,
            ledger: Ledger {
                received: task.received.get(),
                delivered: task.delivered.get(),
                dead_lettered: task.dead_lettered.get(),
                returned: task.returned.get(),
                in_flight: task.in_flight.get(),
                acked: task.acked.get(),
                unaccounted: task.unaccounted(),
            },
            oldest_unacked_ms: task.oldest_unacked_ms.get(),
        }
    }
}

impl Ledger {
    /// The ledger of all shards.
    pub(super) fn of(shards: &[Shard]) -> Self {
        shards.iter().fold(Self::default(), |sum, shard| Self {
            received: sum.received + shard.ledger.received,
            delivered: sum.delivered + shard.ledger.delivered,
            dead_lettered: sum.dead_lettered + shard.ledger.dead_lettered,
            returned: sum.returned + shard.ledger.returned,
            in_flight: sum.in_flight + shard.ledger.in_flight,
            acked: sum.acked + shard.ledger.acked,
            unaccounted: sum.unaccounted + shard.ledger.unaccounted,
        })
    }
}
