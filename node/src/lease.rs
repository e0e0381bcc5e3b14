//! What may connect: a task's permit, from the node's lease and from what the coordinator has told of its shards.
//!
//! Two nodes that hold one shard for a moment would kick each other off its MQTT session, each take-over the answer to the one before. So
//! a task connects only while its node's lease is valid and its assignment is the present one as far as the node knows. Nothing that
//! readings depend on hangs on it: a process that is paused between the question and its CONNECT takes the session once more, and
//! then finds its epoch stale.
//!
//! A connection that lives needs no permit: a node that does not hear the leader goes on carrying readings.

use std::{future, sync::Arc, time::Instant};

use sluice_coordinator::{
    Lease,
    model::{Epoch, Owner, ShardId, State},
};
use tokio::sync::watch;

/// From which tasks get their permits.
#[derive(Debug, Clone)]
pub(crate) struct Permits {
    lease: Lease,
    /// What the leader has told this node.
    part: watch::Receiver<Arc<State>>,
    me: Owner,
}

/// One task's.
#[derive(Debug, Clone)]
pub(crate) struct Permit {
    permits: Permits,
    shard: ShardId,
    epoch: Epoch,
}

/// The shard is another's, or on its way there: the task must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotMine;

impl Permits {
    pub(crate) fn new(lease: Lease, part: watch::Receiver<Arc<State>>, me: Owner) -> Self {
        Self { lease, part, me }
    }

    /// For the task that runs `shard` under `epoch`.
    pub(crate) fn of(&self, shard: &ShardId, epoch: Epoch) -> Permit {
        Permit { permits: self.clone(), shard: shard.clone(), epoch }
    }
}

impl Permit {
    /// Returns when the task may connect. `taken_over_at`: when another client took the session, or may have; then what was
    /// known of the assignment may be old, and only what the leader says after that moment counts.
    pub(crate) async fn obtain(&self, taken_over_at: Option<Instant>) -> Result<(), NotMine> {
        let mut part = self.permits.part.clone();
        let is_lost = async {
            // A coordinator that is gone tells nothing more; whoever stops it stops the task too.
            if part.wait_for(|state| !self.is_mine(state)).await.is_err() {
                future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = is_lost => Err(NotMine),
            () = self.leased(taken_over_at) => {
                // What was decided before the lease was renewed is in the part now: the leader tells it first.
                if self.is_mine(&self.permits.part.borrow()) { Ok(()) } else { Err(NotMine) }
            }
        }
    }

    /// Whether the task may connect at this moment.
    pub(crate) fn is_valid(&self) -> bool {
        self.is_leased() && self.is_mine(&self.permits.part.borrow())
    }

    /// Whether the node's lease is valid.
    pub(crate) fn is_leased(&self) -> bool {
        self.permits.lease.is_valid()
    }

    async fn leased(&self, taken_over_at: Option<Instant>) {
        let lease = &self.permits.lease;
        if let Some(moment) = taken_over_at {
            lease.confirmed_since(moment).await;
        }
        lease.valid().await;
    }

    fn is_mine(&self, state: &State) -> bool {
        let Some(shard) = state.shards.get(&self.shard) else { return false };
        shard.owner.as_ref() == Some(&self.permits.me) && shard.epoch == self.epoch && shard.handover.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sluice_coordinator::{
        Config, Coordinator,
        machine::ApplyPipeline,
        model::{PipelineSpec, SourceIdentity},
    };
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn spec(name: &str) -> anyhow::Result<PipelineSpec> {
        let source =
            SourceIdentity { servers: Vec::new(), share_group: None, client_id_prefix: format!("sluice-{name}") };
        let (shards, filters) = (std::num::NonZeroU32::MIN, Vec::new());
        Ok(PipelineSpec {
            name: name.parse()?,
            shards,
            source,
            filters,
            manifest: String::new(),
            must_keep_shards: false,
        })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_the_present_assignment_under_a_valid_lease_may_connect() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let coordinator = Coordinator::start(Config::new(dir.path(), "n".parse()?)).await?;
        let me = coordinator.attached().await?;
        coordinator.propose(ApplyPipeline { spec: spec("readings")? }).await?;
        let shard = ShardId::new(&"readings".parse()?, 0);
        let mut part = coordinator.part();
        let told = timeout(SOON, part.wait_for(|part| part.shards.contains_key(&shard))).await??.clone();
        let epoch = told.shards[&shard].epoch;
        let permits = Permits::new(coordinator.lease(), coordinator.part(), me);
        let permit = permits.of(&shard, epoch);
        assert_eq!(timeout(SOON, permit.obtain(None)).await?, Ok(()));
        assert!(permit.is_valid() && !permits.of(&shard, epoch.next()).is_valid());
        let moment = Instant::now();
        assert_eq!(timeout(SOON, permit.obtain(Some(moment))).await?, Ok(()), "the next keep-alive confirms it");
        assert!(timeout(Duration::from_millis(1), permit.obtain(Some(Instant::now() + SOON))).await.is_err());
        assert_eq!(timeout(SOON, permits.of(&shard, epoch.next()).obtain(None)).await?, Err(NotMine));
        // Without a leader a lease lapses, and what was told stands.
        coordinator.shutdown().await?;
        timeout(SOON, coordinator.lease().lapsed()).await?;
        assert!(timeout(Duration::from_millis(50), permit.obtain(None)).await.is_err());
        assert!(!permit.is_valid());
        Ok(())
    }
}
