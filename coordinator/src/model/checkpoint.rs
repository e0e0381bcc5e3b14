//! The last word of a shard's owner about what it has delivered.

use std::{collections::BTreeMap, fmt};

use super::{Epoch, Session, UnixMs};

/// A shard's checkpoint, accepted in the Raft log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The assignment under which it was taken.
    pub epoch: Epoch,
    /// When, by the owner's clock.
    pub taken_at: UnixMs,
    /// Counts over the shard's whole life.
    pub ledger: Ledger,
    /// One past the highest offset that Kafka acknowledged for this shard.
    pub next_offsets: BTreeMap<TopicPartition, Offset>,
    /// The session as it now is at the broker; None: never opened, or ended.
    pub session: Option<Session>,
    /// What the task is doing.
    pub status: TaskStatus,
    /// The owner has stopped and gives the shard back.
    pub released: bool,
    /// Age of the oldest reading received and not yet acknowledged to MQTT, in milliseconds; 0: none.
    pub oldest_unacked_ms: u64,
}

/// Counts over a shard's whole life, in readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Came from MQTT.
    pub received: u64,
    /// Acknowledged by Kafka.
    pub delivered: u64,
    /// Left out on purpose.
    pub filtered: u64,
    /// Sent to the dead-letter topic.
    pub dead_lettered: u64,
    /// Given back to the MQTT broker unacknowledged, which sends them again.
    pub returned: u64,
    /// Handed to Kafka, not yet delivered.
    pub in_flight: u64,
    /// Acknowledged to MQTT (`QoS` 1 and 2).
    pub acked: u64,
    /// Received with the DUP flag. Also in `received`.
    pub redelivered: u64,
    /// Times that the broker had lost a session it should have kept.
    pub sessions_lost: u64,
}

impl Ledger {
    /// Readings that were received and are nowhere; anything but 0 is a defect of Sluice.
    pub fn unaccounted(&self) -> i64 {
        let known = [self.delivered, self.filtered, self.dead_lettered, self.returned, self.in_flight];
        // Wraps into the right signed answer for every difference that fits an i64.
        known.iter().fold(self.received, |left, part| left.wrapping_sub(*part)).cast_signed()
    }
}

/// A partition of a Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Kafka's topic name.
    pub topic: String,
    /// Kafka's partition number.
    pub partition: i32,
}

/// An offset in a Kafka partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset(pub i64);

/// What a shard's task is doing, in a word and in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatus {
    /// The word.
    pub state: TaskState,
    /// What is wrong and what to do, or what the broker did not grant; empty when all is well.
    pub message: String,
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Connecting to the MQTT broker, or waiting to try again.
    Connecting,
    /// Carrying readings.
    Running,
    /// Not reading: in flight is full, mostly because Kafka is away.
    BackPressure,
    /// Delivering what is left.
    Draining,
    /// Stopped on purpose; the session is kept.
    Stopped,
    /// Stopped by something that an operator must mend.
    Failed,
    /// The session was ended at the broker; nothing is left to do.
    Retired,
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Running => "running",
            Self::BackPressure => "back-pressure",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Retired => "retired",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unaccounted_has_a_sign() {
        let ledger = Ledger {
            received: 10,
            delivered: 4,
            filtered: 1,
            dead_lettered: 1,
            returned: 1,
            in_flight: 3,
            ..Ledger::default()
        };
        assert_eq!(ledger.unaccounted(), 0);
        assert_eq!(Ledger { received: 12, ..ledger }.unaccounted(), 2);
        assert_eq!(Ledger { received: 9, ..ledger }.unaccounted(), -1);
    }
}
