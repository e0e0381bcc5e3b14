//! What may connect: a task's permit, from the node's lease and from what the coordinator has told of its shards. The rules are in
//! [`Claim`]; here is the waiting.
//!
//! Nothing that readings depend on hangs on it: a process that is paused between the question and its CONNECT takes the session once
//! more, and then finds its epoch stale. A connection that lives needs no permit: a node that does not hear the leader goes on
//! carrying readings.

use std::{future, sync::Arc, time::Instant};

use sluice_coordinator::{
    Lease,
    model::{Epoch, Owner, ShardId, State},
};
use tokio::sync::watch;

use crate::task::claim::{Claim, Standing};

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
    claim: Claim,
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
        Permit { permits: self.clone(), claim: Claim { me: self.me.clone(), shard: shard.clone(), epoch } }
    }
}

impl Permit {
    /// Returns when the task may connect. `taken_over_at`: see [`Claim::standing`].
    pub(crate) async fn obtain(&self, taken_over_at: Option<Instant>) -> Result<(), NotMine> {
        let (mut lease, mut part) = (self.permits.lease.clone(), self.permits.part.clone());
        loop {
            let told = lease.told();
            let standing = self.claim.standing(told, &part.borrow_and_update(), taken_over_at, Instant::now());
            match standing {
                Standing::MayConnect => return Ok(()),
                Standing::NotMine => return Err(NotMine),
                Standing::Waits => {}
            }
            let is_told = tokio::select! {
                is_told = lease.told_more() => is_told,
                changed = part.changed() => changed.is_ok(),
            };
            if !is_told {
                // A coordinator that is gone tells nothing more; whoever stops it stops the task too.
                future::pending::<()>().await;
            }
        }
    }

    /// Whether the task may connect at this moment.
    pub(crate) fn is_valid(&self) -> bool {
        let told = self.permits.lease.clone().told();
        let standing = self.claim.standing(told, &self.permits.part.borrow(), None, Instant::now());
        standing == Standing::MayConnect
    }

    /// Whether the node's lease is valid.
    pub(crate) fn is_leased(&self) -> bool {
        self.permits.lease.is_valid()
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
