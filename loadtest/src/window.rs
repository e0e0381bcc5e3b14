//! PURE: what one connection has sent and the MQTT broker has not acknowledged, by packet id.
//!
//! Survives the connection: after a reconnect it says what to send again, in the order of the first sending [MQTT-4.4.0-1].

use std::time::Duration;

use crate::reading::ReadingId;

/// One reading under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) id: ReadingId,
    /// Since the start of the run.
    pub(crate) intended: Duration,
    /// QoS 2: PUBREC has come, PUBREL is what the broker waits for.
    pub(crate) is_received: bool,
    order: u64,
}

/// The readings under way, at most as many as the broker's Receive Maximum grants.
#[derive(Debug)]
pub(crate) struct Window {
    /// Indexed by packet id; 0 is never used.
    slots: Vec<Option<Sent>>,
    used: usize,
    bound: usize,
    last: u16,
    order: u64,
}

impl Window {
    pub(crate) fn new(bound: u16) -> Self {
        Self { slots: vec![None; 1 << 16], used: 0, bound: usize::from(bound), last: 0, order: 0 }
    }

    /// Lowers the bound to what the broker grants.
    pub(crate) fn grant(&mut self, receive_maximum: u16) {
        self.bound = self.bound.min(usize::from(receive_maximum)).max(1);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.used >= self.bound
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Gives `id` a packet id. The window must not be full.
    pub(crate) fn send(&mut self, id: ReadingId, intended: Duration) -> u16 {
        debug_assert!(!self.is_full());
        // Ends: the bound leaves packet ids free.
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            let slot = &mut self.slots[usize::from(self.last)];
            if slot.is_none() {
                *slot = Some(Sent { id, intended, is_received: false, order: self.order });
                self.order += 1;
                self.used += 1;
                return self.last;
            }
        }
    }

    /// PUBACK, PUBCOMP, or a refusal: the packet id is free again. `None`: it was not in use.
    pub(crate) fn end(&mut self, packet_id: u16) -> Option<Sent> {
        let sent = self.slots[usize::from(packet_id)].take()?;
        self.used -= 1;
        Some(sent)
    }

    /// PUBREC: from now on only PUBREL may be sent for it. False: the packet id was not in use.
    pub(crate) fn receive(&mut self, packet_id: u16) -> bool {
        let Some(sent) = &mut self.slots[usize::from(packet_id)] else { return false };
        sent.is_received = true;
        true
    }

    /// Everything under way, in the order of the first sending.
    pub(crate) fn unacknowledged(&self) -> Vec<(u16, Sent)> {
        let mut all: Vec<_> = (0..=u16::MAX)
            .filter_map(|packet_id| self.slots[usize::from(packet_id)].map(|sent| (packet_id, sent)))
            .collect();
        all.sort_unstable_by_key(|(_, sent)| sent.order);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(seq: u32) -> ReadingId {
        ReadingId { device: 0, seq }
    }

    #[test]
    fn packet_ids_are_not_reused_while_under_way_and_never_0() {
        let mut window = Window::new(2);
        let first = window.send(reading(0), Duration::ZERO);
        for seq in 1..70_000 {
            let packet_id = window.send(reading(seq), Duration::ZERO);
            assert!(packet_id != 0 && packet_id != first);
            assert_eq!(window.end(packet_id).map(|sent| sent.id.seq), Some(seq));
            assert_eq!(window.end(packet_id), None);
        }
    }

    #[test]
    fn what_is_unacknowledged_is_sent_again_in_the_first_order() {
        let mut window = Window::new(60_000);
        window.last = u16::MAX - 1;
        let ids: Vec<u16> = (0..4).map(|seq| window.send(reading(seq), Duration::ZERO)).collect();
        window.end(ids[1]);
        assert!(window.receive(ids[2]));
        let again: Vec<_> = window.unacknowledged().iter().map(|(_, sent)| (sent.id.seq, sent.is_received)).collect();
        assert_eq!(again, [(0, false), (2, true), (3, false)]);
    }

    #[test]
    fn the_broker_may_lower_the_bound() {
        let mut window = Window::new(10);
        window.grant(1);
        window.send(reading(0), Duration::ZERO);
        assert!(window.is_full());
        window.grant(100);
        assert!(window.is_full(), "a bound is never raised");
    }
}
