//! What the coordinator is told of a shard's session: all that the broker may have, before it is asked for anything. PURE.

use sluice_coordinator::model::{Revision, Session as Recorded};

use super::course::Purpose;

/// The filters that a task wants of a pipeline's `topics`.
pub fn wanted(purpose: Purpose, topics: Vec<String>) -> Vec<String> {
    match purpose {
        Purpose::Run => topics,
        Purpose::Retire | Purpose::Discard => Vec::new(),
    }
}

/// What the broker may have once a task of `revision` has begun: all that it had, and all that is wanted.
pub fn before(recorded: Option<&Recorded>, wanted: Vec<String>, revision: Revision) -> Recorded {
    let mut filters = recorded.map(|recorded| recorded.filters.clone()).unwrap_or_default();
    for filter in wanted {
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    Recorded { revision, filters, is_open: recorded.is_some_and(|recorded| recorded.is_open) }
}

/// What the broker has, once it has answered: what it did not unsubscribe is kept, so that the next task asks again.
pub fn after(before: Recorded, wanted: &[String], may_have: impl Fn(&str) -> bool) -> Recorded {
    let mut filters = before.filters;
    filters.retain(|filter| wanted.contains(filter) || may_have(filter));
    Recorded { filters, is_open: true, ..before }
}
