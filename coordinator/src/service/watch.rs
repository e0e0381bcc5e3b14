//! A watch on the assignments: the whole list first, then what has changed since the message before.
//!
//! Pulled by its reader: a message is made when the connection has room for it, from the state as it then is. So a watch holds
//! one list and no queue; a reader that falls behind gets the sum of what it missed, and can neither fill memory nor be cut off.

use std::{collections::BTreeMap, time::Duration};

use futures::{Stream, stream};
use sluice_proto::admin::v1::{Assignment, WatchAssignmentsResponse};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tonic::Status;

use super::status;
use crate::{
    Coordinator,
    model::{PipelineName, ShardId, State},
    wire::admin::assignment,
};

/// How often a node that has no copy of the state asks the leader for it.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks: nobody reads faster, and a busy cluster applies hundreds of commands a second.
const REST: Duration = Duration::from_millis(50);
/// A watch may take a fifth of the time: listing very many shards holds up whoever applies.
const REST_PER_LOOK: u32 = 4;

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
    let watch =
        Watch { coordinator: coordinator.clone(), pipeline, applied, stopping, sent: None, rest: Duration::ZERO };
    stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        match watch.next().await {
            Ok(change) => Some((Ok(change), Some(watch))),
            Err(status) => Some((Err(status), None)),
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
    /// Before the next look.
    rest: Duration,
}

impl Watch {
    /// The next message; an error when the coordinator stops.
    async fn next(&mut self) -> Result<WatchAssignmentsResponse, Status> {
        loop {
            if *self.stopping.borrow() {
                return Err(status::stopping());
            }
            tokio::select! {
                () = sleep(self.rest) => {}
                _ = self.stopping.changed() => return Err(status::stopping()),
            }
            let began = Instant::now();
            self.applied.borrow_and_update();
            let read = self.coordinator.read(|state, at| (list(state, self.pipeline.as_ref()), at)).await;
            self.rest = (began.elapsed() * REST_PER_LOOK).max(REST);
            match read {
                Ok((list, applied_index)) => {
                    let is_first = self.sent.is_none();
                    let (changed, removed) = difference(self.sent.as_ref(), &list);
                    self.sent = Some(list);
                    if is_first || !changed.is_empty() || !removed.is_empty() {
                        return Ok(WatchAssignmentsResponse { changed, removed, applied_index });
                    }
                }
                // A reader that has the list is better off waiting with it until somebody leads again.
                Err(error) if self.sent.is_none() || !error.is_retryable() => return Err(error.into()),
                Err(_) => {}
            }
            let core = self.coordinator.core();
            let (mut in_group, is_in_group) = (core.attachment.in_group(), core.is_in_group());
            tokio::select! {
                // Put into the group, or forgotten: what to wait for is another thing now.
                _ = in_group.changed() => {}
                applied = self.applied.changed() => applied.map_err(|_| status::stopping())?,
                _ = self.stopping.changed() => return Err(status::stopping()),
                () = sleep(ASK_EVERY), if !is_in_group => {}
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
