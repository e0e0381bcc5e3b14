//! Checks of the product that a run can do without, to prove that the invariants would notice.
//!
//! A mutant sits at a seam: in the simulation's driver, where the product's answer is used, or where what the product decides from is handed
//! to it. Each does what the product would do if the check were not in its code, so no other build is needed.

/// What is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A node does not look whether the epoch that a task runs under is still the present one. All that a node knows of epochs and owners is
    /// its part; the driver keeps in it what was told first of a shard that has a task. So neither `Table::steps`, which stops such tasks, nor
    /// `Claim::standing`, which refuses them a connection, sees a later epoch.
    EpochUnchecked,
    /// A task connects without a valid lease: the driver takes `Standing::Waits`, the only answer by which a lease holds a task back, for
    /// `Standing::MayConnect`.
    ConnectsUnleased,
    /// A reading is acknowledged when it is handed to Kafka: the driver gives `Session::ack_up_to`, the one gate of every ack, the number of the
    /// next reading in place of the tracker's watermark.
    AckBeforeDelivery,
    /// The log takes a checkpoint of any epoch: the one check in `RecordCheckpoints` compares with the epoch and the owner that the shard
    /// has, so the checkpoint is given those before it is applied.
    OldCheckpointAccepted,
}
