//! How the readings of every shard flow, as the MQTT broker sees it: connections and acks of its session. Pure.
//!
//! A node acks a reading only when Kafka has it, so an ack tells of a delivery without asking the node.

use std::time::{Duration, Instant};

/// The flows of shards 0 up to a number.
#[derive(Debug)]
pub(super) struct Flows(Vec<Flow>);

/// The flow of one shard.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flow {
    /// Readings acked.
    pub(super) acked: u64,
    /// Connections so far.
    pub(super) connections: u64,
    /// How the newest connection that has acked anything took up the flow.
    pub(super) resumed: Option<Resumed>,
    last_ack: Option<Instant>,
}

/// The first ack of a connection that is not the session's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resumed {
    /// Number of the connection, from 1.
    pub(super) connection: u64,
    /// Since the last ack of the connection before.
    pub(super) gap: Duration,
}

impl Flows {
    /// Nothing seen yet.
    pub(super) fn new(shards: u32) -> Self {
        Self((0..shards).map(|_| Flow::default()).collect())
    }

    /// The session of this shard has a new connection.
    pub(super) fn connected(&mut self, shard: usize) {
        if let Some(flow) = self.0.get_mut(shard) {
            flow.connections += 1;
        }
    }

    /// A reading of this shard was acked.
    pub(super) fn acked(&mut self, shard: usize, now: Instant) {
        let Some(flow) = self.0.get_mut(shard) else { return };
        let is_first = flow.resumed.is_none_or(|resumed| resumed.connection < flow.connections);
        if let (true, Some(last)) = (is_first && flow.connections > 1, flow.last_ack) {
            flow.resumed = Some(Resumed { connection: flow.connections, gap: now.saturating_duration_since(last) });
        }
        flow.acked += 1;
        flow.last_ack = Some(now);
    }

    /// The flow of a shard.
    pub(super) fn of(&self, shard: usize) -> Flow {
        self.0.get(shard).copied().unwrap_or_default()
    }

    /// Readings acked so far, by shard.
    pub(super) fn acked_by_shard(&self) -> Vec<u64> {
        self.0.iter().map(|flow| flow.acked).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_ends_with_the_first_ack_of_a_later_connection() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut flows = Flows::new(1);
        flows.connected(0);
        flows.acked(0, at(10));
        assert_eq!(flows.of(0).resumed, None, "the first connection resumes nothing");
        // What a killed node had still written is acked by its old connection.
        flows.acked(0, at(12));
        flows.connected(0);
        assert_eq!(flows.of(0).resumed, None, "connected, and nothing flows yet");
        flows.acked(0, at(1_500));
        flows.acked(0, at(1_501));
        assert_eq!(flows.of(0).resumed, Some(Resumed { connection: 2, gap: Duration::from_millis(1_488) }));
        assert_eq!(flows.acked_by_shard(), [4]);
    }
}
