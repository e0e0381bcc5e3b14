//! The kinds of faults: their names, and what each needs.

use clap::ValueEnum;

use super::mqtt::Broker;
use crate::lab::{disk::Disk, environment, network::Network};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// kill -9 of a node that owns shards and does not lead
    KillFollower,
    /// kill -9 of the leader
    KillLeader,
    /// kill -9 of a leader that owns no shards, as it was drained before
    KillIdleLeader,
    /// kill -9 of two nodes at once, the leader among them or not
    KillTwo,
    /// kill -9 of all nodes at once
    KillAll,
    /// SIGSTOP of a node for longer than its lease, then SIGCONT
    Pause,
    /// One node and the others do not hear each other; the brokers hear all
    Partition,
    /// One node is not heard by the others, or does not hear them
    PartitionOneWay,
    /// One node is cut off from everything, the brokers too
    Isolate,
    /// Mosquitto stopped by SIGTERM and started again
    MqttRestart,
    /// kill -9 of HiveMQ, which keeps what it acknowledged
    MqttKill,
    /// kill -9 of Kafka
    KafkaKill,
    /// The disk of a node is full
    FullDisk,
    /// All shards of a node are moved away as planned, and it is filled again
    Drain,
    /// All nodes are stopped by SIGTERM and started again, one after the other
    Rolling,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillFollower => "kill-follower",
            Self::KillLeader => "kill-leader",
            Self::KillIdleLeader => "kill-idle-leader",
            Self::KillTwo => "kill-two",
            Self::KillAll => "kill-all",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::PartitionOneWay => "partition-one-way",
            Self::Isolate => "isolate",
            Self::MqttRestart => "mqtt-restart",
            Self::MqttKill => "mqtt-kill",
            Self::KafkaKill => "kafka-kill",
            Self::FullDisk => "full-disk",
            Self::Drain => "drain",
            Self::Rolling => "rolling",
        }
    }

    /// The MQTT broker itself is ended, and may forget who was subscribed.
    pub(crate) fn is_of_mqtt_broker(self) -> bool {
        matches!(self, Self::MqttRestart | Self::MqttKill)
    }

    pub(crate) fn needs_network(self) -> bool {
        matches!(self, Self::Partition | Self::PartitionOneWay | Self::Isolate)
    }

    /// Fails where this cluster and broker make the fault meaningless.
    pub(crate) fn check_meaningful(self, nodes: u8, broker: Broker) -> anyhow::Result<()> {
        let nodes_min = match self {
            Self::KillFollower | Self::KillIdleLeader | Self::Drain => 2,
            Self::KillTwo | Self::Partition | Self::PartitionOneWay => 3,
            _ => 1,
        };
        anyhow::ensure!(nodes >= nodes_min, "{} needs at least {nodes_min} nodes", self.name());
        match (self, broker) {
            (Self::MqttRestart, Broker::HiveMq | Broker::HiveMqMended) => {
                anyhow::bail!("mqtt-restart is for Mosquitto; HiveMQ is killed: mqtt-kill")
            }
            (Self::MqttKill, Broker::Mosquitto) => {
                anyhow::bail!(
                    "a killed Mosquitto forgets what it acknowledged, which nobody could bring back: mqtt-restart"
                )
            }
            _ => Ok(()),
        }
    }

    /// Fails with a sentence where this machine cannot do it.
    pub(crate) fn check_possible(self) -> anyhow::Result<()> {
        match self {
            Self::FullDisk => Disk::check_possible(),
            kind if kind.needs_network() => Network::check_possible(),
            _ => environment::java().map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for kind in Kind::value_variants() {
            let name = kind.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(name.as_deref(), Some(kind.name()));
        }
    }
}
