//! For how long every handover has been under way. PURE: time is an argument.
//!
//! By this leader's own clock, from when it first saw it: the time in the state is that of whoever proposed the move, whose clock may be
//! minutes away. A new leader gives every owner the whole time again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    model::{ShardId, State},
    plan::Late,
};

/// What the present leader has seen, since it leads.
#[derive(Debug, Default)]
pub struct Handovers {
    seen: BTreeMap<ShardId, Seen>,
}

#[derive(Debug)]
struct Seen {
    which: Late,
    since: Instant,
}

impl Handovers {
    /// Takes in the state's handovers, of which those are returned that were there `deadline` ago.
    pub fn late(&mut self, state: &State, deadline: Duration, now: Instant) -> BTreeMap<ShardId, Late> {
        self.seen.retain(|id, seen| Late::of(state, id).is_some_and(|which| which == seen.which));
        for (id, shard) in &state.shards {
            if shard.handover.is_some()
                && !self.seen.contains_key(id)
                && let Some(which) = Late::of(state, id)
            {
                self.seen.insert(id.clone(), Seen { which, since: now });
            }
        }
        let late = self.seen.iter().filter(|(_, seen)| now.duration_since(seen.since) >= deadline);
        late.map(|(id, seen)| (id.clone(), seen.which.clone())).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::model::{Epoch, Handover, NodeName, Shard, UnixMs};

    const DEADLINE: Duration = Duration::from_secs(15);

    fn state(epoch: u64, to: Option<&str>) -> State {
        let name = |name: &str| name.parse::<NodeName>().unwrap();
        // Whoever proposed the move is an hour behind.
        let handover = to.map(|to| Handover { to: name(to), since: UnixMs(1) });
        let epoch = Epoch(epoch);
        let shard = Shard { owner: None, epoch, since: UnixMs(1), session: None, handover, is_retiring: false };
        let id = ShardId { pipeline: "p".parse().unwrap(), index: 0 };
        State { shards: [(id, shard)].into(), ..State::default() }
    }

    #[test]
    fn each_handover_has_the_whole_time_from_when_it_was_seen() {
        let (start, mut handovers) = (Instant::now(), Handovers::default());
        let mut late = |state: &State, seconds| {
            let now = start + Duration::from_secs(seconds);
            handovers.late(state, DEADLINE, now).len()
        };
        assert_eq!(late(&state(1, Some("a")), 0), 0);
        assert_eq!(late(&state(1, Some("a")), 14), 0);
        assert_eq!(late(&state(1, Some("a")), 15), 1);
        // To another node, or of another assignment, it is another one.
        assert_eq!(late(&state(1, Some("b")), 16), 0);
        assert_eq!(late(&state(2, Some("b")), 30), 0);
        assert_eq!(late(&state(2, Some("b")), 45), 1);
        assert_eq!(late(&state(2, None), 46), 0);
        assert_eq!(late(&state(2, Some("b")), 60), 0);
    }
}
