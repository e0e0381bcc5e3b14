//! A model MQTT broker: persistent sessions, shared subscriptions, in-flight windows, takeover, redelivery, `QoS` 1 and 2, restarts; as
//! its [`Profile`] has it. Clients speak to it in bytes.

mod connection;
pub(crate) mod packet;
pub(crate) mod profile;
mod session;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sluice_node::pipeline::source::session::Version;

use self::{
    connection::Connection,
    packet::{Connect, Sent},
    profile::{AtEnd, Profile, Restart, Share},
    session::Session,
};
use crate::{chance::Chance, fact::Fact, kafka::Id, net::Net, setup::Ms};

/// A connection's number, never given twice.
pub(crate) type ConnectionNo = u64;

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) profile: Profile,
    qos: u8,
    sessions: BTreeMap<String, Session>,
    connections: BTreeMap<ConnectionNo, Connection>,
    made: ConnectionNo,
    down_until: Ms,
    /// By filter with group, whose turn it is.
    turns: BTreeMap<String, usize>,
    /// By filter with group, for [`Share::GroupQueue`].
    group_queues: BTreeMap<String, VecDeque<Id>>,
    /// Filters with group whose queue is looked into only for a client of it that gives a reason, as [`Profile::clogs`] tells.
    clogged: BTreeSet<String>,
    /// Readings that the broker has given up by its own word, or was told to throw away.
    pub(crate) given_up: BTreeSet<Id>,
    pub(crate) takeovers: u64,
    pub(crate) redeliveries: u64,
    pub(crate) sessions_forgotten: u64,
}

impl Broker {
    pub(crate) fn new(profile: Profile, qos: u8) -> Self {
        Self {
            profile,
            qos,
            sessions: BTreeMap::new(),
            connections: BTreeMap::new(),
            made: 0,
            down_until: 0,
            turns: BTreeMap::new(),
            group_queues: BTreeMap::new(),
            clogged: BTreeSet::new(),
            given_up: BTreeSet::new(),
            takeovers: 0,
            redeliveries: 0,
            sessions_forgotten: 0,
        }
    }

    /// A device publishes. It is acknowledged, and so many groups are to get it; 0: none, or the broker is down.
    pub(crate) fn publish(&mut self, id: Id, now: Ms, chance: &mut Chance) -> u32 {
        if now < self.down_until {
            return 0;
        }
        let filters: BTreeSet<String> = self.sessions.values().flat_map(|session| session.filters.clone()).collect();
        let mut groups = 0;
        for filter in filters.iter().filter(|filter| matches(filter, session::topic(id))) {
            groups += 1;
            self.share(filter, id);
        }
        if groups > 0 {
            self.pump_all(now, chance);
        }
        groups
    }

    pub(crate) fn restart(&mut self, until: Ms, facts: &mut Vec<Fact>, chance: &mut Chance) {
        self.down_until = self.down_until.max(until);
        // Else it was stopped, and sends again what was in flight.
        if self.profile.clogs && chance.below(2) == 0 {
            self.clog();
        }
        for number in self.connections.keys().copied().collect::<Vec<_>>() {
            self.drop_connection(number, facts);
        }
        match self.profile.restart {
            Restart::Everything => {}
            Restart::AllButShares => self.sessions.values_mut().for_each(|session| session.filters.clear()),
            Restart::Nothing => {
                self.sessions_forgotten += self.sessions.len() as u64;
                for session in std::mem::take(&mut self.sessions).into_values() {
                    self.given_up.extend(session.queue);
                    self.given_up.extend(session.in_flight.iter().map(|entry| entry.id));
                }
                self.given_up.extend(std::mem::take(&mut self.group_queues).into_values().flatten());
            }
        }
    }

    /// It was killed.
    fn clog(&mut self) {
        for session in self.sessions.values_mut().filter(|session| !session.in_flight.is_empty()) {
            self.clogged.extend(session.filters.iter().cloned());
            self.given_up.extend(session.in_flight.drain(..).map(|entry| entry.id));
        }
    }

    /// The broker, or something on the way, ends a connection.
    pub(crate) fn drop_some_connection(&mut self, facts: &mut Vec<Fact>, chance: &mut Chance) {
        let open: Vec<_> = self.connections.keys().copied().collect();
        if !open.is_empty() {
            self.drop_connection(open[chance.place(open.len())], facts);
        }
    }

    /// An operator removes a session, with what it holds.
    pub(crate) fn remove(&mut self, client_id: &str, now: Ms, chance: &mut Chance) {
        self.end_session(client_id, true);
        self.pump_all(now, chance);
    }

    pub(crate) fn heal(&mut self) {
        self.down_until = 0;
    }

    /// Nothing waits for anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.group_queues.values().all(VecDeque::is_empty)
            && self.sessions.values().all(|session| session.queue.is_empty() && session.in_flight.is_empty())
    }

    /// Sessions that are subscribed to something or hold something.
    pub(crate) fn sessions_in_use(&self) -> usize {
        let is_used = |session: &&Session| {
            !session.filters.is_empty() || !session.queue.is_empty() || !session.in_flight.is_empty()
        };
        self.sessions.values().filter(is_used).count()
    }

    /// Everything that has arrived.
    pub(crate) fn step(&mut self, net: &Net, facts: &mut Vec<Fact>, now: Ms, chance: &mut Chance) {
        for number in self.connections.keys().copied().collect::<Vec<_>>() {
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            if connection.is_closed_by_broker || !net.reaches_broker(connection.peer.node) {
                continue;
            }
            while connection.to_broker.front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, bytes)) = connection.to_broker.pop_front() else { break };
                connection.input.extend_from_slice(&bytes);
            }
            while let Some(connection) = self.connections.get_mut(&number).filter(|c| !c.is_closed_by_broker) {
                let Some(sent) = packet::take(&mut connection.input, connection.version) else { break };
                self.take(number, sent, facts, now, chance);
            }
            let is_left = self.connections.get(&number).is_some_and(|connection| {
                connection.to_broker.is_empty() && connection.closed_by_client.is_some_and(|at| at <= now)
            });
            if is_left {
                self.drop_connection(number, facts);
                self.connections.remove(&number);
                self.pump_all(now, chance);
            }
        }
    }

    fn take(&mut self, number: ConnectionNo, sent: Sent, facts: &mut Vec<Fact>, now: Ms, chance: &mut Chance) {
        match sent {
            Sent::Connect(connect) => self.connect(number, connect, facts, now, chance),
            Sent::Subscribe(id, filters) => {
                let (version, granted) = (self.version(number), vec![self.qos; filters.len()]);
                if let Some(session) = self.session(number) {
                    session.filters.extend(filters);
                }
                self.send(number, packet::granted(version, 0x90, id, &granted), now, chance);
                self.pump(number, now, chance);
                self.pump_all(now, chance);
            }
            Sent::Unsubscribe(id, filters) => {
                let (version, count) = (self.version(number), filters.len());
                self.unsubscribe(number, &filters);
                let codes = if version == Version::V5 { vec![0; count] } else { Vec::new() };
                self.send(number, packet::granted(version, 0xB0, id, &codes), now, chance);
            }
            Sent::Puback(id) | Sent::Pubrec(id) => {
                self.answered(number, id, facts);
                self.acknowledge(number, id, matches!(sent, Sent::Pubrec(_)), facts, now, chance);
            }
            Sent::Pubcomp(id) => {
                let is_known = self.session(number).is_some_and(|session| session.complete(id));
                self.freed(number, is_known, now, chance);
            }
            Sent::Pingreq => self.send(number, packet::PINGRESP.to_vec(), now, chance),
            Sent::Disconnect { ends_session } => {
                let open = self.connections.get(&number);
                let left = open.and_then(|open| Some((open.client_id.clone()?, open.peer.discards)));
                self.drop_connection(number, facts);
                if let Some((client_id, discards)) = left.filter(|_| ends_session) {
                    self.end_session(&client_id, discards);
                }
                self.pump_all(now, chance);
            }
        }
    }

    fn connect(&mut self, number: ConnectionNo, connect: Connect, facts: &mut Vec<Fact>, now: Ms, chance: &mut Chance) {
        let Connect { version, client_id, is_clean, receive_maximum } = connect;
        let before = self.sessions.get(&client_id).and_then(|session| session.connection);
        if let Some(before) = before.filter(|before| self.connections.contains_key(before)) {
            self.takeovers += 1;
            if self.profile.says_taken_over && self.version(before) == Version::V5 {
                let [first, length] = packet::TAKEN_OVER;
                self.send(before, vec![first, length, packet::TAKEN_OVER_REASON], now, chance);
            }
            self.drop_connection(before, facts);
        }
        if is_clean {
            let discards = self.connections.get(&number).is_some_and(|connection| connection.peer.discards);
            self.end_session(&client_id, discards);
        }
        let Some(connection) = self.connections.get_mut(&number) else { return };
        facts.push(Fact::Connected { peer: connection.peer.clone() });
        connection.version = version;
        connection.client_id = Some(client_id.clone());
        connection.receive_maximum = receive_maximum.map_or(usize::MAX, usize::from);
        let is_present = self.sessions.contains_key(&client_id);
        let session = self.sessions.entry(client_id).or_default();
        (session.connection, session.is_passing) = (Some(number), is_clean);
        let (packets, due) = session.again(version, self.qos);
        connection.due = due;
        self.redeliveries += packets.len() as u64;
        self.send(number, packet::connack(version, is_present), now, chance);
        for packet in packets {
            self.send(number, packet, now, chance);
        }
        self.pump(number, now, chance);
        self.pump_all(now, chance);
    }

    /// The client has answered a PUBLISH; a client that knows an id from an earlier connection only answers nothing [MQTT-4.4.0-1].
    fn answered(&mut self, number: ConnectionNo, packet_id: u16, facts: &mut Vec<Fact>) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let due = connection.due.pop_front();
        facts.push(Fact::Answered { connection: number, packet_id, due });
    }

    fn acknowledge(
        &mut self,
        number: ConnectionNo,
        packet_id: u16,
        is_pubrec: bool,
        facts: &mut Vec<Fact>,
        now: Ms,
        chance: &mut Chance,
    ) {
        let Some(session) = self.session(number) else { return };
        let Some(entry) = session.entry(packet_id) else { return };
        facts.push(Fact::Acked { id: entry.id });
        if is_pubrec {
            entry.is_released = true;
            self.send(number, packet::pubrel(packet_id), now, chance);
        } else {
            session.complete(packet_id);
            self.freed(number, true, now, chance);
        }
    }

    fn unsubscribe(&mut self, number: ConnectionNo, filters: &[String]) {
        let keeps = self.profile.unsubscribed_keep_queue;
        let Some(session) = self.session(number) else { return };
        for filter in filters {
            session.filters.remove(filter);
        }
        if !keeps {
            session.queue.clear();
        }
        let groups: Vec<_> = self.group_queues.keys().cloned().collect();
        for filter in groups {
            if self.sessions.values().all(|session| !session.filters.contains(&filter)) {
                // Nobody is left to send it to, and the broker has not promised to keep it.
                self.given_up.extend(self.group_queues.remove(&filter).unwrap_or_default());
            }
        }
    }

    /// Room in the window, perhaps more than there is.
    fn freed(&mut self, number: ConnectionNo, is_freed: bool, now: Ms, chance: &mut Chance) {
        if self.profile.exceeds_window && is_freed {
            let window = self.window(number);
            for _ in 0..window {
                if !self.send_next(number, true, now, chance) {
                    break;
                }
            }
        } else {
            self.pump(number, now, chance);
        }
    }

    fn pump_all(&mut self, now: Ms, chance: &mut Chance) {
        let mut open: Vec<_> = self.sessions.values().filter_map(|session| session.connection).collect();
        if !open.is_empty() {
            let first = chance.place(open.len());
            open.rotate_left(first);
        }
        for number in open {
            self.pump_from(number, false, now, chance);
        }
    }

    /// Its client has given a reason to look for readings.
    fn pump(&mut self, number: ConnectionNo, now: Ms, chance: &mut Chance) {
        self.pump_from(number, true, now, chance);
    }

    fn pump_from(&mut self, number: ConnectionNo, clogged_too: bool, now: Ms, chance: &mut Chance) {
        let window = self.window(number);
        while self.session(number).is_some_and(|session| session.in_flight.len() < window) {
            if !self.send_next(number, clogged_too, now, chance) {
                return;
            }
        }
    }

    /// Sends the next reading that waits for this client; false: none does.
    fn send_next(&mut self, number: ConnectionNo, clogged_too: bool, now: Ms, chance: &mut Chance) -> bool {
        let (version, qos) = (self.version(number), self.qos);
        let Some(connection) = self.connections.get_mut(&number).filter(|open| !open.is_closed_by_broker) else {
            return false;
        };
        let Some(session) = connection.client_id.as_ref().and_then(|id| self.sessions.get_mut(id)) else {
            return false;
        };
        let from_group = || {
            let mut queues =
                self.group_queues.iter_mut().filter(|(filter, _)| clogged_too || !self.clogged.contains(*filter));
            queues.find_map(|(filter, queue)| session.filters.contains(filter).then(|| queue.pop_front()).flatten())
        };
        let Some(id) = session.queue.pop_front().or_else(from_group) else { return false };
        let packet_id = session.send(id);
        connection.due.push_back(packet_id);
        self.send(number, session::publish(version, qos, packet_id, false, id), now, chance);
        true
    }

    /// One member of the group gets the reading.
    fn share(&mut self, filter: &str, id: Id) {
        if self.profile.share == Share::GroupQueue {
            self.group_queues.entry(filter.to_owned()).or_default().push_back(id);
            return;
        }
        let has = |session: &Session| session.filters.contains(filter);
        let mut members: Vec<_> =
            self.sessions.iter().filter(|(_, session)| has(session)).map(|(client_id, _)| client_id.clone()).collect();
        if self.profile.share == Share::OnlineFirst {
            let is_online = |client_id: &String| self.sessions[client_id].connection.is_some();
            if members.iter().any(is_online) {
                members.retain(is_online);
            }
        }
        if members.is_empty() {
            // The last of the group has ended, and this was sent to it.
            self.given_up.insert(id);
            return;
        }
        let turn = self.turns.entry(filter.to_owned()).or_default();
        *turn += 1;
        let client_id = &members[*turn % members.len()];
        self.sessions.entry(client_id.clone()).or_default().queue.push_back(id);
    }

    fn drop_connection(&mut self, number: ConnectionNo, facts: &mut Vec<Fact>) {
        let Some(connection) = self.connections.get_mut(&number).filter(|open| !open.is_closed_by_broker) else {
            return;
        };
        connection.is_closed_by_broker = true;
        let is_left = connection.closed_by_client.is_some();
        let client_id = connection.client_id.clone();
        if is_left {
            self.connections.remove(&number);
        }
        let Some(client_id) = client_id else { return };
        let Some(session) = self.sessions.get_mut(&client_id).filter(|session| session.connection == Some(number))
        else {
            return;
        };
        session.connection = None;
        if session.is_passing {
            self.sessions.remove(&client_id);
            return;
        }
        facts.push(Fact::Cut { unacked: session.in_flight.iter().map(|entry| entry.id).collect() });
        if self.profile.redispatches {
            let filters = session.filters.clone();
            let again: Vec<Id> = session.in_flight.iter().map(|entry| entry.id).collect();
            session.in_flight.retain(|entry| entry.is_released);
            self.redeliveries += again.len() as u64;
            self.dispatch_again(&filters, again);
        }
    }

    /// `discards`: whoever ends it may throw away what it holds.
    fn end_session(&mut self, client_id: &str, discards: bool) {
        let Some(session) = self.sessions.remove(client_id) else { return };
        if discards {
            self.given_up.extend(session.queue.iter().copied());
            self.given_up.extend(session.in_flight.iter().map(|entry| entry.id));
        }
        let sent = session.in_flight.iter().filter(|entry| !entry.is_released).map(|entry| entry.id);
        match self.profile.at_end {
            AtEnd::Dropped => {}
            AtEnd::Redispatched { qos2 } => {
                let sent: Vec<Id> = if qos2 || self.qos == 1 { sent.collect() } else { Vec::new() };
                self.dispatch_again(&session.filters, sent.into_iter().chain(session.queue).collect());
            }
        }
    }

    /// To whoever is subscribed now, the former one's group first; what nobody is subscribed to has nowhere to go.
    fn dispatch_again(&mut self, filters: &BTreeSet<String>, ids: Vec<Id>) {
        let others: BTreeSet<_> = self.sessions.values().flat_map(|session| session.filters.clone()).collect();
        for id in ids.into_iter().rev() {
            let is_alive = |filter: &&String| others.contains(*filter) && matches(filter, session::topic(id));
            match filters.iter().find(is_alive).or_else(|| others.iter().find(is_alive)) {
                Some(filter) if self.profile.share == Share::GroupQueue => {
                    self.group_queues.entry(filter.clone()).or_default().push_front(id);
                }
                Some(filter) => self.share(filter, id),
                None => {
                    self.given_up.insert(id);
                }
            }
        }
    }

    fn send(&mut self, number: ConnectionNo, bytes: Vec<u8>, now: Ms, chance: &mut Chance) {
        if let Some(connection) = self.connections.get_mut(&number).filter(|open| !open.is_closed_by_broker) {
            let at = (now + chance.below(20)).max(connection.to_client.back().map_or(0, |(at, _)| *at));
            connection.to_client.push_back((at, bytes));
        }
    }

    fn session(&mut self, number: ConnectionNo) -> Option<&mut Session> {
        let client_id = self.connections.get(&number)?.client_id.as_ref()?;
        self.sessions.get_mut(client_id).filter(|session| session.connection == Some(number))
    }

    fn version(&self, number: ConnectionNo) -> Version {
        self.connections.get(&number).map_or(Version::V5, |connection| connection.version)
    }

    fn window(&self, number: ConnectionNo) -> usize {
        self.connections.get(&number).map_or(0, |open| open.receive_maximum.min(self.profile.window))
    }
}

/// `$share/<group>/<level>/#` and a topic below that level.
fn matches(filter: &str, topic: &str) -> bool {
    filter.split('/').nth(2) == topic.split('/').next()
}
