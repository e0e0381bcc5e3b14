//! What the session is subscribed to, and the SUBSCRIBE and UNSUBSCRIBE under way [MQTT-3.8, MQTT-3.10].
//!
//! After every CONNACK all wanted filters are subscribed again (harmless [MQTT-3.8.4-3]) and then those that are wanted no more are
//! unsubscribed, so that a lost SUBSCRIBE or a change made while disconnected needs no memory elsewhere. In this order, and
//! the second only when the first is answered: a topic that old and new filters have in common is subscribed to at every moment.
//! A broker that is silent is [reminded](super::reminder) of the shared filters.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    error::SessionError,
    event::{Event, RefusedFilter, Subscribed},
    packet::{self, Acks},
    reminder::Reminder,
    settings::{Qos, Version},
};

/// Filters in one SUBSCRIBE or UNSUBSCRIBE: some brokers refuse more than eight.
const FILTERS_PER_PACKET: usize = 8;
/// A broker that reads answers at once; what it had queued may come before the answer, and that is a window or a few.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Subscriptions {
    version: Version,
    qos: Qos,
    wanted: Vec<String>,
    /// Filters that the session at the broker has, or may have, once everything sent has arrived.
    at_broker: BTreeSet<String>,
    under_way: VecDeque<Request>,
    /// Since when we read, and the oldest request under way has no answer.
    unanswered_since: Option<Instant>,
    was_reading: bool,
    last_packet_id: u16,
    answers: Subscribed,
    not_unsubscribed: Vec<RefusedFilter>,
    /// Of the present connection, if a filter is shared.
    reminder: Option<Reminder>,
}

#[derive(Debug)]
struct Request {
    packet_id: u16,
    asks: Asks,
    filters: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Subscribe,
    /// SUBSCRIBE for what is subscribed already.
    Remind,
    Unsubscribe,
}

impl Asks {
    fn is_subscribe(self) -> bool {
        self != Self::Unsubscribe
    }
}

/// How the session stands with its broker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// The socket is being read.
    pub(super) is_reading: bool,
    /// Readings that have ever come.
    pub(super) received: u64,
    /// Every one of this connection is acknowledged.
    pub(super) is_acked: bool,
}

impl Subscriptions {
    pub(super) fn new(version: Version, qos: Qos, filters: Vec<String>) -> Self {
        Self {
            version,
            qos,
            at_broker: filters.iter().cloned().collect(),
            wanted: filters,
            under_way: VecDeque::new(),
            unanswered_since: None,
            was_reading: true,
            last_packet_id: 0,
            answers: Subscribed::default(),
            not_unsubscribed: Vec::new(),
            reminder: None,
        }
    }

    pub(super) fn wanted(&self) -> &[String] {
        &self.wanted
    }

    /// Nothing is under way.
    pub(super) fn is_settled(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether the session at the broker has no filter at all, for sure.
    pub(super) fn is_empty(&self) -> bool {
        self.is_settled() && self.at_broker.is_empty()
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
        self.unanswered_since = None;
        self.answers = Subscribed::default();
        self.not_unsubscribed.clear();
        self.reminder = None;
    }

    /// Wants `filters` from the next connection on.
    pub(super) fn change(&mut self, filters: &[String]) {
        self.wanted = filters.to_vec();
    }

    /// After CONNACK. `received`: readings that have ever come.
    pub(super) fn connected(
        &mut self,
        is_session_present: bool,
        received: u64,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<(), SessionError> {
        if !is_session_present {
            self.at_broker.clear();
        }
        self.was_reading = true;
        if self.wanted.is_empty() {
            return self.unsubscribe_stale(now, out);
        }
        let is_shared = self.shared().next().is_some();
        self.reminder = is_shared.then(|| Reminder::new(received, now));
        let wanted = self.wanted.clone();
        self.send(Asks::Subscribe, &wanted, now, out)
    }

    fn shared(&self) -> impl Iterator<Item = &String> {
        self.wanted.iter().filter(|filter| filter.starts_with("$share/"))
    }

    /// When [`tick`](Self::tick) must be called at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let unanswered = self.unanswered_since.filter(|_| self.was_reading).map(|since| since + ANSWER_WITHIN);
        unanswered.into_iter().chain(self.reminder.as_ref().map(Reminder::deadline)).min()
    }

    /// Reminds a silent broker of the shared filters. Fails when it has not answered for too long while it was read: it would not send
    /// readings either.
    pub(super) fn tick(&mut self, now: Instant, standing: Standing, out: &mut BytesMut) -> Result<(), SessionError> {
        let waits = standing.is_reading && standing.is_acked && self.is_settled();
        if self.reminder.as_mut().is_some_and(|reminder| reminder.tick(standing.received, waits, now)) {
            let shared: Vec<_> = self.shared().filter(|filter| self.at_broker.contains(*filter)).cloned().collect();
            self.send(Asks::Remind, &shared, now, out)?;
        }
        let was_reading = std::mem::replace(&mut self.was_reading, standing.is_reading);
        let Some(since) = &mut self.unanswered_since else { return Ok(()) };
        if !was_reading || !standing.is_reading {
            *since = now;
        }
        if now < *since + ANSWER_WITHIN {
            return Ok(());
        }
        let is_subscribe = self.under_way.front().is_some_and(|request| request.asks.is_subscribe());
        Err(SessionError::NoAnswer { what: if is_subscribe { "SUBACK" } else { "UNSUBACK" }, after: ANSWER_WITHIN })
    }

    pub(super) fn suback(
        &mut self,
        acks: &Acks,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<Option<Event>, SessionError> {
        let request = self.answered(acks.packet_id, true, now)?;
        if acks.codes.len() != request.filters.len() {
            return Err(SessionError::protocol("a SUBACK with a wrong number of reason codes [MQTT-3.8.4-6]"));
        }
        if request.asks == Asks::Remind {
            return Ok(self.reminded(&request, acks));
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
                }
                None => {
                    self.at_broker.remove(&filter);
                    self.answers.refused.push(RefusedFilter { filter, code: *code });
                }
            }
        }
        if self.under_way.iter().any(|request| request.asks.is_subscribe()) {
            return Ok(None);
        }
        self.unsubscribe_stale(now, out)?;
        Ok(Some(Event::Subscribed(Box::new(std::mem::take(&mut self.answers)))))
    }

    /// A refusal need not end the subscription that there is. It is told once, and the broker is not asked again on this connection.
    fn reminded(&mut self, request: &Request, acks: &Acks) -> Option<Event> {
        let (filter, code) = request.filters.iter().zip(acks.codes.iter()).find(|(_, code)| **code >= 0x80)?;
        self.reminder.take()?;
        let refused = RefusedFilter { filter: filter.clone(), code: *code };
        Some(Event::Noted(format!("{refused}, though it is subscribed to already: readings may stop coming")))
    }

    pub(super) fn unsuback(&mut self, acks: &Acks, now: Instant) -> Result<Option<Event>, SessionError> {
        let request = self.answered(acks.packet_id, false, now)?;
        // MQTT 3.1.1 has no codes in UNSUBACK.
        for (filter, code) in request.filters.into_iter().zip(acks.codes.iter()).filter(|(_, code)| **code >= 0x80) {
            self.at_broker.insert(filter.clone());
            self.not_unsubscribed.push(RefusedFilter { filter, code: *code });
        }
        let is_last = self.under_way.iter().all(|request| request.asks.is_subscribe());
        Ok(is_last.then(|| Event::Unsubscribed { refused: std::mem::take(&mut self.not_unsubscribed) }))
    }

    fn unsubscribe_stale(&mut self, now: Instant, out: &mut BytesMut) -> Result<(), SessionError> {
        let stale: Vec<_> = self.at_broker.iter().filter(|filter| !self.wanted.contains(filter)).cloned().collect();
        self.send(Asks::Unsubscribe, &stale, now, out)
    }

    fn send(&mut self, asks: Asks, filters: &[String], now: Instant, out: &mut BytesMut) -> Result<(), SessionError> {
        for chunk in filters.chunks(FILTERS_PER_PACKET) {
            let packet_id = self.next_packet_id();
            if asks.is_subscribe() {
                packet::write_subscribe(self.version, packet_id, chunk, self.qos, out)?;
                self.at_broker.extend(chunk.iter().cloned());
            } else {
                packet::write_unsubscribe(self.version, packet_id, chunk, out)?;
                for filter in chunk {
                    self.at_broker.remove(filter);
                }
            }
            self.under_way.push_back(Request { packet_id, asks, filters: chunk.to_vec() });
            self.unanswered_since.get_or_insert(now);
        }
        Ok(())
    }

    fn answered(&mut self, packet_id: u16, is_subscribe: bool, now: Instant) -> Result<Request, SessionError> {
        let is_it = |request: &Request| request.packet_id == packet_id && request.asks.is_subscribe() == is_subscribe;
        let request = self.under_way.iter().position(is_it).and_then(|at| self.under_way.remove(at));
        self.unanswered_since = (!self.under_way.is_empty()).then_some(now);
        request.ok_or_else(|| SessionError::protocol("a SUBACK or UNSUBACK for nothing that was asked [MQTT-2.2.1-6]"))
    }

    /// Requests are answered long before 65,535 more are made: a connection asks once, and then only when nothing is under way.
    fn next_packet_id(&mut self) -> u16 {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        self.last_packet_id
    }
}
