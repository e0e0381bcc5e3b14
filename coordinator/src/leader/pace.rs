//! How often nodes may take checkpoints, so that all of them together stay below what the log should carry. PURE.

use std::time::Duration;

/// Proposals a second that checkpoints may come to: the log takes thousands, but each costs an fsync on every voter, and what
/// people and the planner propose must not wait behind them. The goal is 200; the rest is for checkpoints at starts and releases.
const PROPOSALS_PER_SECOND: u64 = 160;
/// Bytes a second, likewise.
const BYTES_PER_SECOND: u64 = 1 << 20;
/// What one shard's checkpoint takes in the log: counters, a session, a handful of partitions.
const BYTES_PER_CHECKPOINT: u64 = 256;

/// Least time between two checkpoints of one node.
pub(crate) fn checkpoint_interval(nodes: usize, shards: usize) -> Duration {
    let ms = |count: usize, per_second: u64| (count as u64).saturating_mul(1_000) / per_second;
    Duration::from_millis(ms(nodes, PROPOSALS_PER_SECOND).max(ms(shards, BYTES_PER_SECOND / BYTES_PER_CHECKPOINT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_clusters_are_not_held_back_and_large_ones_stay_below_the_bound() {
        assert!(checkpoint_interval(5, 500) < Duration::from_secs(1));
        let many = checkpoint_interval(1_000, 1_000);
        assert!(1_000.0 / many.as_secs_f64() < 200.0, "{many:?}");
        assert!(checkpoint_interval(10, 100_000) > Duration::from_secs(20));
    }
}
