//! The life of a shard's task on this node, as a table. PURE.

use std::time::{Duration, Instant};

use super::desired::Desired;

/// First wait before a task that failed by something that may pass is tried again; it doubles up to the longest.
pub const RETRY_FIRST: Duration = Duration::from_secs(5);
/// See [`RETRY_FIRST`].
pub const RETRY_LONGEST: Duration = Duration::from_secs(300);

/// Where a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// On its lane.
    Running,
    /// On its lane, told to stop.
    Stopping,
    /// Failed; kept so that it is not started again at once, and so that its status is shown.
    Failed {
        /// When to try again; none: only an operator can say.
        again_at: Option<Instant>,
    },
    /// Its session is ended and the coordinator is being told.
    Retired,
}

/// What to do about a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Under a valid lease.
    Start,
    /// Readings in flight first.
    Stop,
    /// Forget a failed task: give the shard back.
    Release,
    /// It is as it should be, or nothing can be done now.
    Nothing,
}

/// The table: what is wanted against what is there. Only under a valid lease does a task start; what runs and what stops needs none.
pub fn action(desired: Option<&Desired>, running: Option<(&Desired, &Phase)>, is_leased: bool, now: Instant) -> Action {
    let start = if is_leased { Action::Start } else { Action::Nothing };
    match (desired, running) {
        (None, None) => Action::Nothing,
        (Some(_), None) => start,
        (_, Some((_, Phase::Stopping | Phase::Retired))) => Action::Nothing,
        (Some(wanted), Some((has, Phase::Running))) if wanted == has => Action::Nothing,
        (_, Some((_, Phase::Running))) => Action::Stop,
        (Some(wanted), Some((has, Phase::Failed { again_at }))) => {
            if wanted != has || again_at.is_some_and(|at| at <= now) { start } else { Action::Nothing }
        }
        (None, Some((_, Phase::Failed { .. }))) => Action::Release,
    }
}

/// How long to wait after the `failures`th failure in a row, from 1.
pub fn retry_after(failures: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(RETRY_LONGEST)
}

#[cfg(test)]
mod tests {
    use sluice_coordinator::model::{Epoch, Revision};

    use super::*;
    use crate::lane::course::Purpose;

    fn at_epoch(epoch: u64) -> Desired {
        Desired { epoch: Epoch(epoch), purpose: Purpose::Run, revision: Revision(1) }
    }

    #[test]
    fn the_table() {
        let now = Instant::now();
        let (one, two) = (at_epoch(1), at_epoch(2));
        let failed = Phase::Failed { again_at: None };
        let due = Phase::Failed { again_at: Some(now) };
        for (desired, running, expected) in [
            (None, None, Action::Nothing),
            (Some(&one), None, Action::Start),
            (Some(&one), Some((&one, &Phase::Running)), Action::Nothing),
            (Some(&two), Some((&one, &Phase::Running)), Action::Stop),
            (None, Some((&one, &Phase::Running)), Action::Stop),
            (Some(&two), Some((&one, &Phase::Stopping)), Action::Nothing),
            (Some(&one), Some((&one, &failed)), Action::Nothing),
            (Some(&two), Some((&one, &failed)), Action::Start),
            (Some(&one), Some((&one, &due)), Action::Start),
            (None, Some((&one, &failed)), Action::Release),
            (Some(&two), Some((&one, &Phase::Retired)), Action::Nothing),
        ] {
            assert_eq!(action(desired, running, true, now), expected, "{desired:?} {running:?}");
            let unleased = if expected == Action::Start { Action::Nothing } else { expected };
            assert_eq!(action(desired, running, false, now), unleased, "without a lease: {desired:?} {running:?}");
        }
    }

    #[test]
    fn waits_double_to_the_longest() {
        let waits: Vec<_> = (1..9).map(|failures| retry_after(failures).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
    }
}
