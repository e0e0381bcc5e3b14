//! What the session is subscribed to, and the SUBSCRIBE and UNSUBSCRIBE under way [MQTT-3.8, MQTT-3.10].
//!
//! After every CONNACK all wanted filters are subscribed again (harmless [MQTT-3.8.4-3]) and those that are wanted no more are
//! unsubscribed, so that a lost SUBSCRIBE or a change made while disconnected needs no memory elsewhere.

use std::collections::{BTreeSet, VecDeque};

use bytes::BytesMut;

use super::{
    error::SessionError,
    event::{Event, RefusedFilter, Subscribed},
    packet::{self, Acks},
    settings::{Qos, Version},
};

/// Filters in one SUBSCRIBE or UNSUBSCRIBE: some brokers refuse more than eight.
const FILTERS_PER_PACKET: usize = 8;

#[derive(Debug)]
pub(super) struct Subscriptions {
    version: Version,
    qos: Qos,
    wanted: Vec<String>,
    /// Filters that the session at the broker has, or may have, once everything sent has arrived.
    at_broker: BTreeSet<String>,
    under_way: VecDeque<Request>,
    last_packet_id: u16,
    answers: Subscribed,
    not_unsubscribed: Vec<RefusedFilter>,
}

#[derive(Debug)]
struct Request {
    packet_id: u16,
    is_subscribe: bool,
    filters: Vec<String>,
}

impl Subscriptions {
    pub(super) fn new(version: Version, qos: Qos, filters: Vec<String>) -> Self {
        Self {
            version,
            qos,
            at_broker: filters.iter().cloned().collect(),
            wanted: filters,
            under_way: VecDeque::new(),
            last_packet_id: 0,
            answers: Subscribed::default(),
            not_unsubscribed: Vec::new(),
        }
    }

    pub(super) fn wanted(&self) -> &[String] {
        &self.wanted
    }

    /// Nothing is under way.
    pub(super) fn is_settled(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether the session at the broker has `filter`, or may have it.
    pub(super) fn may_have(&self, filter: &str) -> bool {
        let is_asked = |request: &Request| request.filters.iter().any(|asked| asked == filter);
        self.at_broker.contains(filter) || self.under_way.iter().any(is_asked)
    }

    /// The connection is gone: what it did not answer may or may not have happened.
    pub(super) fn connection_lost(&mut self) {
        for request in self.under_way.drain(..) {
            self.at_broker.extend(request.filters);
        }
        self.answers = Subscribed::default();
        self.not_unsubscribed.clear();
    }

    /// After CONNACK.
    pub(super) fn connected(&mut self, is_session_present: bool, out: &mut BytesMut) -> Result<(), SessionError> {
        if !is_session_present {
            self.at_broker.clear();
        }
        let stale = self.stale();
        self.send(false, &stale, out)?;
        let wanted = self.wanted.clone();
        self.send(true, &wanted, out)
    }

    /// Wants `filters` from now on. True: an event will follow.
    pub(super) fn change(
        &mut self,
        filters: &[String],
        is_open: bool,
        out: &mut BytesMut,
    ) -> Result<bool, SessionError> {
        self.wanted = filters.to_vec();
        if !is_open {
            return Ok(false);
        }
        let stale = self.stale();
        let new: Vec<_> = filters.iter().filter(|filter| !self.at_broker.contains(*filter)).cloned().collect();
        let is_asked = !stale.is_empty() || !new.is_empty();
        self.send(false, &stale, out)?;
        self.send(true, &new, out)?;
        Ok(is_asked)
    }

    pub(super) fn suback(&mut self, acks: &Acks) -> Result<Option<Event>, SessionError> {
        let request = self.answered(acks.packet_id, true)?;
        if acks.codes.len() != request.filters.len() {
            return Err(SessionError::protocol("a SUBACK with a wrong number of reason codes [MQTT-3.8.4-6]"));
        }
        for (filter, code) in request.filters.into_iter().zip(acks.codes.iter()) {
            match Qos::from_number(*code) {
                Some(qos) => {
                    if qos < self.qos {
                        self.answers.notes.push(format!(
                            "the MQTT broker grants QoS {qos} instead of {} for {filter:?}: what it sends is delivered at most that surely",
                            self.qos
                        ));
                    }
                    self.answers.granted.push((filter, qos));
                }
                None => {
                    self.at_broker.remove(&filter);
                    self.answers.refused.push(RefusedFilter { filter, code: *code });
                }
            }
        }
        let is_last = !self.under_way.iter().any(|request| request.is_subscribe);
        Ok(is_last.then(|| Event::Subscribed(Box::new(std::mem::take(&mut self.answers)))))
    }

    pub(super) fn unsuback(&mut self, acks: &Acks) -> Result<Option<Event>, SessionError> {
        let request = self.answered(acks.packet_id, false)?;
        // MQTT 3.1.1 has no codes in UNSUBACK.
        for (filter, code) in request.filters.into_iter().zip(acks.codes.iter()).filter(|(_, code)| **code >= 0x80) {
            self.at_broker.insert(filter.clone());
            self.not_unsubscribed.push(RefusedFilter { filter, code: *code });
        }
        let is_last = self.under_way.iter().all(|request| request.is_subscribe);
        Ok(is_last.then(|| Event::Unsubscribed { refused: std::mem::take(&mut self.not_unsubscribed) }))
    }

    fn stale(&self) -> Vec<String> {
        self.at_broker.iter().filter(|filter| !self.wanted.contains(filter)).cloned().collect()
    }

    fn send(&mut self, is_subscribe: bool, filters: &[String], out: &mut BytesMut) -> Result<(), SessionError> {
        for chunk in filters.chunks(FILTERS_PER_PACKET) {
            let packet_id = self.next_packet_id();
            if is_subscribe {
                packet::write_subscribe(self.version, packet_id, chunk, self.qos, out)?;
                self.at_broker.extend(chunk.iter().cloned());
            } else {
                packet::write_unsubscribe(self.version, packet_id, chunk, out)?;
                for filter in chunk {
                    self.at_broker.remove(filter);
                }
            }
            self.under_way.push_back(Request { packet_id, is_subscribe, filters: chunk.to_vec() });
        }
        Ok(())
    }

    fn answered(&mut self, packet_id: u16, is_subscribe: bool) -> Result<Request, SessionError> {
        let is_it = |request: &Request| request.packet_id == packet_id && request.is_subscribe == is_subscribe;
        self.under_way
            .iter()
            .position(is_it)
            .and_then(|at| self.under_way.remove(at))
            .ok_or_else(|| SessionError::protocol("a SUBACK or UNSUBACK for nothing that was asked [MQTT-2.2.1-6]"))
    }

    /// Requests are answered long before 65,535 more are made: a change of filters is an operator's act.
    fn next_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }
}
