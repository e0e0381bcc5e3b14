//! A watch on the assignments: the whole list first, then what has changed since the message before.
//!
//! Pulled by its reader: a message is made when the connection has room for it, from the state as it then is. So a watch holds
//! one list and no queue; a reader that falls behind gets the sum of what it missed, and can neither fill memory nor be cut off.

use std::collections::BTreeMap;

use futures::{Stream, stream};
use sluice_proto::admin::v1::{Assignment, WatchAssignmentsResponse};
use tokio::sync::watch;
use tonic::Status;

use super::status;
use crate::{
    Coordinator,
    model::{PipelineName, ShardId, State},
    wire::admin::assignment,
};

/// The assignments as they are, of one pipeline or of all.
pub(super) fn list(state: &State, pipeline: Option<&PipelineName>) -> BTreeMap<ShardId, Assignment> {
    let shards = state.shards.iter().filter(|(id, _)| pipeline.is_none_or(|wanted| id.pipeline == *wanted));
    shards.map(|(id, shard)| (id.clone(), assignment(state, id, shard))).collect()
}

/// The list, then the changes, until the coordinator stops.
pub(super) fn changes(
    coordinator: &Coordinator,
    pipeline: Option<PipelineName>,
) -> impl Stream<Item = Result<WatchAssignmentsResponse, Status>> + Send + use<> {
    let (applied, stopping) = (coordinator.applied(), coordinator.stopping());
    let watch = Watch { coordinator: coordinator.clone(), pipeline, applied, stopping, sent: None };
    stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        match watch.next().await {
            Some(change) => Some((Ok(change), Some(watch))),
            None => Some((Err(status::stopping()), None)),
        }
    })
}

struct Watch {
    coordinator: Coordinator,
    pipeline: Option<PipelineName>,
    applied: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    /// What the reader has; None before the first message.
    sent: Option<BTreeMap<ShardId, Assignment>>,
}

impl Watch {
    /// The next message; None when the coordinator stops.
    async fn next(&mut self) -> Option<WatchAssignmentsResponse> {
        loop {
            if *self.stopping.borrow() {
                return None;
            }
            self.applied.borrow_and_update();
            let (list, applied_index) = self.coordinator.view_at(|state, at| (list(state, self.pipeline.as_ref()), at));
            let is_first = self.sent.is_none();
            let (changed, removed) = difference(self.sent.as_ref(), &list);
            self.sent = Some(list);
            if is_first || !changed.is_empty() || !removed.is_empty() {
                return Some(WatchAssignmentsResponse { changed, removed, applied_index });
            }
            tokio::select! {
                applied = self.applied.changed() => applied.ok()?,
                _ = self.stopping.changed() => return None,
            }
        }
    }
}

/// What is new or other in `now`, and what is no more.
fn difference(
    sent: Option<&BTreeMap<ShardId, Assignment>>,
    now: &BTreeMap<ShardId, Assignment>,
) -> (Vec<Assignment>, Vec<Assignment>) {
    let Some(sent) = sent else { return (now.values().cloned().collect(), Vec::new()) };
    let changed = now.iter().filter(|(id, assignment)| sent.get(id) != Some(assignment));
    let removed = sent.iter().filter(|(id, _)| !now.contains_key(id));
    (changed.map(|(_, a)| a.clone()).collect(), removed.map(|(_, a)| a.clone()).collect())
}
