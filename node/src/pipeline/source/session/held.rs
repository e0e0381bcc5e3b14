//! `QoS` 2 packet ids between PUBLISH and PUBREL [MQTT-4.3.3]: what must not be handed out twice.
//!
//! They outlive a connection [MQTT-4.1.0-1]. An id alone can lie: a broker that came back with an old snapshot, or a node that
//! had the session in between, may have used it up and given it to a new reading. Swallowing that one would lose it,
//! the worse error; so an id counts as held only for the same topic and payload.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hasher},
};

#[derive(Debug, Default)]
pub(super) struct Held {
    ids: HashMap<u16, Receipt, BuildHasherDefault<IdHasher>>,
    /// Of those, answered with PUBREC.
    recorded: usize,
}

#[derive(Debug, Clone, Copy)]
struct Receipt {
    seq: u64,
    fingerprint: u64,
    is_recorded: bool,
    /// Its PUBREC has been counted, on this connection or an earlier one.
    is_counted: bool,
}

/// What a PUBREL is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// The reading is delivered: PUBCOMP.
    Released,
    /// PUBCOMP once the reading is delivered.
    After { seq: u64 },
    /// PUBCOMP all the same, or the broker asks for ever.
    Unknown,
}

impl Held {
    /// Takes a receipt in: none if it is new, else the number of the reading it repeats.
    pub(super) fn receive(&mut self, packet_id: u16, seq: u64, fingerprint: u64) -> Option<u64> {
        let receipt = Receipt { seq, fingerprint, is_recorded: false, is_counted: false };
        match self.ids.entry(packet_id) {
            Entry::Vacant(free) => {
                free.insert(receipt);
                None
            }
            Entry::Occupied(mut held) => {
                self.recorded -= usize::from(std::mem::take(&mut held.get_mut().is_recorded));
                if held.get().fingerprint == fingerprint {
                    return Some(held.get().seq);
                }
                held.insert(receipt);
                None
            }
        }
    }

    /// PUBREC for the reading `seq`: none if the id does not stand for it any more and nothing may be sent, else whether
    /// this is the reading's first.
    pub(super) fn record(&mut self, packet_id: u16, seq: u64) -> Option<bool> {
        let receipt = self.ids.get_mut(&packet_id).filter(|receipt| receipt.seq == seq)?;
        self.recorded += usize::from(!receipt.is_recorded);
        receipt.is_recorded = true;
        Some(!std::mem::replace(&mut receipt.is_counted, true))
    }

    /// PUBREL; what is delivered lies below `watermark`.
    pub(super) fn release(&mut self, packet_id: u16, watermark: u64) -> Release {
        match self.ids.get(&packet_id) {
            None => Release::Unknown,
            Some(receipt) if receipt.seq >= watermark => Release::After { seq: receipt.seq },
            Some(receipt) => {
                self.recorded -= usize::from(receipt.is_recorded);
                self.ids.remove(&packet_id);
                Release::Released
            }
        }
    }

    /// Forgets readings that were received and will not be delivered.
    pub(super) fn forget_from(&mut self, watermark: u64) {
        self.ids.retain(|_, receipt| receipt.seq < watermark);
        self.recorded = self.ids.values().filter(|receipt| receipt.is_recorded).count();
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Ids answered with PUBREC that wait for PUBREL: they count against the receive maximum [MQTT-4.9].
    pub(super) fn recorded(&self) -> usize {
        self.recorded
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// A hash of topic and payload, eight bytes at a time. It tells apart what a broker mixed up, not what an attacker built: who can
/// choose a payload gains nothing but the loss of that payload.
pub(super) fn fingerprint(topic: &[u8], payload: &[u8]) -> u64 {
    let mut hash = topic.len() as u64;
    for part in [topic, payload] {
        let (chunks, rest) = part.as_chunks::<8>();
        for chunk in chunks {
            hash = mix(hash, u64::from_le_bytes(*chunk));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = mix(hash, u64::from_le_bytes(last));
    }
    mix(hash, payload.len() as u64)
}

fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Packet ids are given out in sequence: one multiplication spreads them over the table.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u16(u16::from(*byte));
        }
    }

    fn write_u16(&mut self, id: u16) {
        self.0 = mix(self.0, u64::from(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_tell_topic_and_payload_apart() {
        let all = [("a", "bc"), ("ab", "c"), ("a", "bd"), ("a", "bc\0"), ("a", ""), ("", "abc"), ("a", "12345678")];
        let prints: std::collections::HashSet<_> =
            all.iter().map(|(topic, payload)| fingerprint(topic.as_bytes(), payload.as_bytes())).collect();
        assert_eq!(prints.len(), all.len());
    }
}
