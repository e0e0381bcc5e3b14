//! A broker's half of a persistent session [MQTT-4.1, MQTT-4.3, MQTT-4.4].

use std::collections::{BTreeSet, VecDeque};

use sluice_node::pipeline::source::session::Version;

use super::{ConnectionNo, packet};
use crate::kafka::Id;

/// Packet ids come again soon.
const PACKET_IDS: u16 = 97;

#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Filters, with `$share/<group>/`.
    pub(crate) filters: BTreeSet<String>,
    pub(crate) queue: VecDeque<Id>,
    /// In the order in which they were first sent.
    pub(crate) in_flight: Vec<InFlight>,
    pub(crate) connection: Option<ConnectionNo>,
    /// MQTT 3.1.1: it was begun clean, and is over with its connection [MQTT-3.1.2-6].
    pub(crate) is_passing: bool,
    last_packet_id: u16,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct InFlight {
    pub(crate) packet_id: u16,
    pub(crate) id: Id,
    /// PUBREC has come, PUBREL was sent.
    pub(crate) is_released: bool,
}

impl Session {
    /// A reading is sent for the first time: its packet id.
    pub(crate) fn send(&mut self, id: Id) -> u16 {
        loop {
            // More are in flight than there are ids only if a broker sends without end.
            let ids = PACKET_IDS.max(u16::try_from(2 * self.in_flight.len()).unwrap_or(u16::MAX));
            self.last_packet_id = self.last_packet_id % ids + 1;
            let packet_id = self.last_packet_id;
            if self.in_flight.iter().all(|entry| entry.packet_id != packet_id) {
                self.in_flight.push(InFlight { packet_id, id, is_released: false });
                return packet_id;
            }
        }
    }

    pub(crate) fn entry(&mut self, packet_id: u16) -> Option<&mut InFlight> {
        self.in_flight.iter_mut().find(|entry| entry.packet_id == packet_id)
    }

    /// The reading needs no more of the client.
    pub(crate) fn complete(&mut self, packet_id: u16) -> bool {
        let before = self.in_flight.len();
        self.in_flight.retain(|entry| entry.packet_id != packet_id);
        self.in_flight.len() < before
    }

    /// All that is unacknowledged again, in order, under its own ids [MQTT-4.4.0-1, MQTT-4.6.0-1]. Second: the ids that an answer is due for.
    pub(crate) fn again(&self, version: Version, qos: u8) -> (Vec<Vec<u8>>, VecDeque<u16>) {
        let (mut packets, mut due) = (Vec::new(), VecDeque::new());
        for entry in &self.in_flight {
            if entry.is_released {
                packets.push(packet::pubrel(entry.packet_id));
            } else {
                packets.push(publish(version, qos, entry.packet_id, true, entry.id));
                due.push_back(entry.packet_id);
            }
        }
        (packets, due)
    }
}

/// A reading's number is its payload; its topic says whether the wide filter is needed for it.
pub(crate) fn publish(version: Version, qos: u8, packet_id: u16, is_duplicate: bool, id: Id) -> Vec<u8> {
    packet::publish(version, qos, packet_id, is_duplicate, topic(id), &id.to_string())
}

pub(crate) fn topic(id: Id) -> &'static str {
    if id.is_multiple_of(3) { "wide/d" } else { "narrow/d" }
}
