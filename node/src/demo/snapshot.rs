//! Everything that one moment of the demo shows.

use std::time::Duration;

use super::tally::{Latency, Tally, Totals};
use crate::registry::{Registry, State};

/// One moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// Since the start.
    pub(super) elapsed: Duration,
    /// What sensors and witness say.
    pub(super) totals: Totals,
    /// Of the last second.
    pub(super) latency: Latency,
    /// What the node says, by shard.
    pub(super) shards: Vec<Shard>,
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
    /// Reads tally and registry.
    pub(super) fn take(tally: &mut Tally, registry: &Registry, elapsed: Duration) -> Self {
        let shard = |task: &crate::registry::Task| {
            let status = task.status();
            Shard {
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
        };
        Self {
            elapsed,
            totals: tally.totals(),
            latency: tally.recent_latency(elapsed),
            shards: registry.tasks().iter().map(|task| shard(task)).collect(),
        }
    }

    /// The ledger of all shards.
    pub(super) fn ledger(&self) -> Ledger {
        self.shards.iter().fold(Ledger::default(), |sum, shard| Ledger {
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
