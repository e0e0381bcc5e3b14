//! How many readings each shard carries, measured from its checkpoints. PURE.

use std::collections::BTreeMap;

use crate::model::{ShardId, State, UnixMs};

/// Weight of the newest measurement: after five of them the older ones count for a third.
const NEWEST: f64 = 0.2;
/// A shard that says nothing new for so long carries nothing: its checkpoints stop when its counters do.
const SILENT_AFTER_MS: u64 = 60_000;

/// Readings a second, by shard, smoothed.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    seen: BTreeMap<ShardId, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: UnixMs,
    delivered: u64,
    rate: f64,
}

impl Rates {
    /// Takes in the state's checkpoints.
    pub(crate) fn observe(&mut self, state: &State) {
        self.seen.retain(|shard, _| state.checkpoints.contains_key(shard));
        for (shard, checkpoint) in &state.checkpoints {
            let (at, delivered) = (checkpoint.taken_at, checkpoint.ledger.delivered);
            match self.seen.get_mut(shard) {
                None => {
                    self.seen.insert(shard.clone(), Seen { at, delivered, rate: 0.0 });
                }
                Some(seen) if at > seen.at => {
                    let more = delivered.saturating_sub(seen.delivered);
                    #[expect(clippy::cast_precision_loss, reason = "a rate is a rough thing")]
                    let rate = more as f64 * 1_000.0 / at.millis_since(seen.at) as f64;
                    let smooth = if seen.rate == 0.0 { rate } else { seen.rate + NEWEST * (rate - seen.rate) };
                    *seen = Seen { at, delivered, rate: smooth };
                }
                Some(_) => {}
            }
        }
    }

    /// The rates as of `now`.
    pub(crate) fn table(&self, now: UnixMs) -> BTreeMap<ShardId, f64> {
        let rate = |seen: &Seen| if now.millis_since(seen.at) > SILENT_AFTER_MS { 0.0 } else { seen.rate };
        self.seen.iter().map(|(shard, seen)| (shard.clone(), rate(seen))).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::model::{Checkpoint, Epoch, Ledger, TaskState, TaskStatus};

    fn told(state: &mut State, at: u64, delivered: u64) -> ShardId {
        let shard = ShardId { pipeline: "p".parse().unwrap(), index: 0 };
        let checkpoint = Checkpoint {
            epoch: Epoch(1),
            taken_at: UnixMs(at),
            ledger: Ledger { delivered, ..Ledger::default() },
            next_offsets: BTreeMap::new(),
            session: None,
            status: TaskStatus { state: TaskState::Running, message: String::new() },
            released: false,
            oldest_unacked_ms: 0,
        };
        state.checkpoints.insert(shard.clone(), checkpoint);
        shard
    }

    #[test]
    fn a_rate_is_the_difference_over_time_and_fades_in_silence() {
        let (mut state, mut rates) = (State::default(), Rates::default());
        let shard = told(&mut state, 1_000, 500);
        rates.observe(&state);
        told(&mut state, 2_000, 1_500);
        rates.observe(&state);
        rates.observe(&state);
        assert_eq!(rates.table(UnixMs(2_000))[&shard], 1_000.0);
        told(&mut state, 3_000, 1_500);
        rates.observe(&state);
        assert_eq!(rates.table(UnixMs(3_000))[&shard], 800.0);
        assert_eq!(rates.table(UnixMs(3_000 + SILENT_AFTER_MS + 1))[&shard], 0.0);
        state.checkpoints.clear();
        rates.observe(&state);
        assert!(rates.table(UnixMs(3_000)).is_empty());
    }
}
