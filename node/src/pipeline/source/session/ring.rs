//! The acks that a connection owes, in the order in which the packets came [MQTT-4.6.0-2, MQTT-4.6.0-3].
//!
//! An ack becomes due when the reading it stands for is delivered, but leaves only after every ack before it.

use std::collections::VecDeque;

/// Most acks owed at once. A broker that keeps to any receive maximum stays at 65,535; twice that leaves room for one that
/// sends every packet again, and more is a broker that never waits.
pub(super) const OWED_MAX: usize = 2 * u16::MAX as usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `QoS` 1.
    Puback,
    /// `QoS` 2, first receipt or a repeat.
    Pubrec,
    /// `QoS` 2, released before it was delivered.
    Pubcomp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owed {
    /// The reading that must be delivered first. Of a repeat: the first receipt's, which is older than its place.
    pub(super) seq: u64,
    pub(super) packet_id: u16,
    pub(super) kind: Kind,
}

#[derive(Debug, Default)]
pub(super) struct Ring(VecDeque<Owed>);

impl Ring {
    pub(super) fn push(&mut self, owed: Owed) {
        self.0.push_back(owed);
    }

    /// The next ack, if its reading is below `watermark`.
    #[inline]
    pub(super) fn pop_due(&mut self, watermark: u64) -> Option<Owed> {
        if self.0.front()?.seq < watermark { self.0.pop_front() } else { None }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets what the old connection owed: the broker sends those packets again [MQTT-4.4.0-1]. Gives the memory back,
    /// as an idle shard should cost little.
    pub(super) fn clear(&mut self) {
        self.0 = VecDeque::new();
    }
}
