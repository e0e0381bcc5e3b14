//! A model broker under random faults: any interleaving of sending, cut streams, deliveries out of order, reconnects and
//! a producer that dies. It asserts what a broker may rely on, and that in the end every reading is acknowledged and was delivered first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// The broker sends as many messages as its window allows, at most so many.
    Publish(u8),
    /// So many bytes reach the session.
    ToSession(u16),
    /// Kafka acknowledges the reading at this place of those in flight.
    Deliver(u8),
    /// The lane acknowledges up to the watermark.
    Ack,
    /// So many bytes reach the broker.
    ToBroker(u16),
    /// The connection is lost with all bytes under way.
    Reconnect,
    /// The producer dies with all that is in flight, and the connection is dropped.
    Abandon,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..6_u8).prop_map(Step::Publish),
        6 => (1..200_u16).prop_map(Step::ToSession),
        6 => any::<u8>().prop_map(Step::Deliver),
        4 => Just(Step::Ack),
        4 => (1..60_u16).prop_map(Step::ToBroker),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Abandon),
    ];
    proptest::collection::vec(step, 0..200)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sent,
    Released,
}

/// The broker's half of a session [MQTT-4.3, MQTT-4.4].
#[derive(Debug, Default)]
struct Broker {
    /// `QoS` of each message that was published to it; its payload is its index.
    messages: Vec<u8>,
    next: usize,
    last_packet_id: u16,
    /// In the order they were first sent.
    in_flight: Vec<(u16, usize, State)>,
    completed: BTreeSet<usize>,
    has_session: bool,
    is_connected: bool,
    /// Of this connection, PUBLISH packets that wait for PUBACK or PUBREC, in the order they were sent.
    unanswered: VecDeque<u16>,
}

const WINDOW: usize = 5;

struct World {
    broker: Broker,
    session: Session,
    version: Version,
    now: Instant,
    out: BytesMut,
    to_session: Vec<u8>,
    input: BytesMut,
    at_broker: BytesMut,
    /// Sequence number and message, handed to Kafka.
    in_flight: Vec<(u64, usize)>,
    delivered: BTreeSet<usize>,
    settled: BTreeSet<u64>,
    watermark: u64,
    /// Handed out and not abandoned: message to sequence number.
    handed_out: BTreeMap<usize, u64>,
}

impl World {
    fn new(version: Version, messages: Vec<u8>) -> Self {
        let mut world = Self {
            broker: Broker { messages, ..Broker::default() },
            session: Session::new(settings(version, Qos::ExactlyOnce)).unwrap(),
            version,
            now: Instant::now(),
            out: BytesMut::new(),
            to_session: Vec::new(),
            input: BytesMut::new(),
            at_broker: BytesMut::new(),
            in_flight: Vec::new(),
            delivered: BTreeSet::new(),
            settled: BTreeSet::new(),
            watermark: 0,
            handed_out: BTreeMap::new(),
        };
        world.reconnect();
        world
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish(count) => (0..*count).for_each(|_| self.publish()),
            Step::ToSession(bytes) => self.deliver_to_session(usize::from(*bytes)),
            Step::Deliver(at) => self.deliver(usize::from(*at)),
            Step::Ack => {
                self.session.ack_up_to(Seq(self.watermark), &mut self.out);
            }
            Step::ToBroker(bytes) => self.deliver_to_broker(usize::from(*bytes)),
            Step::Reconnect => self.reconnect(),
            Step::Abandon => self.abandon(),
        }
    }

    fn publish(&mut self) {
        if !self.broker.is_connected || self.broker.in_flight.len() >= WINDOW {
            return;
        }
        let Some(qos) = self.broker.messages.get(self.broker.next).copied() else { return };
        let message = self.broker.next;
        self.broker.next += 1;
        let mut packet_id = 0;
        if qos > 0 {
            // A small space of ids, so that they are used again soon.
            packet_id = self.broker.last_packet_id % 7 + 1;
            while self.broker.in_flight.iter().any(|(id, ..)| *id == packet_id) {
                packet_id = packet_id % 7 + 1;
            }
            self.broker.last_packet_id = packet_id;
            self.broker.in_flight.push((packet_id, message, State::Sent));
            self.broker.unanswered.push_back(packet_id);
        }
        self.to_session.extend(publish(self.version, qos, packet_id, false, &message.to_string()));
    }

    fn deliver_to_session(&mut self, bytes: usize) {
        let bytes = bytes.min(self.to_session.len());
        self.input.extend(self.to_session.drain(..bytes));
        while let Some(event) = self.session.next(&mut self.input, self.now, &mut self.out).unwrap() {
            if let Event::Reading(reading) = event {
                self.hand_out(&reading);
            }
        }
    }

    fn hand_out(&mut self, reading: &Reading) {
        let message = std::str::from_utf8(&reading.payload).unwrap().parse::<usize>().unwrap();
        let seq = reading.seq.0;
        let first = self.handed_out.insert(message, seq);
        if reading.qos == Qos::ExactlyOnce {
            assert_eq!(first, None, "QoS 2 message {message} was handed out twice while held");
        }
        let in_flight = self.in_flight.len() as u64;
        assert_eq!(seq, in_flight + self.settled.len() as u64, "sequence numbers are contiguous");
        self.in_flight.push((seq, message));
    }

    fn deliver(&mut self, at: usize) {
        if self.in_flight.is_empty() {
            return;
        }
        let (seq, message) = self.in_flight.remove(at % self.in_flight.len());
        self.delivered.insert(message);
        self.settle(seq);
    }

    fn settle(&mut self, seq: u64) {
        self.settled.insert(seq);
        while self.settled.contains(&self.watermark) {
            self.watermark += 1;
        }
    }

    fn deliver_to_broker(&mut self, bytes: usize) {
        let bytes = bytes.min(self.out.len());
        self.at_broker.extend_from_slice(&self.out.split_to(bytes));
        while let Some(sent) = take_sent(&mut self.at_broker, self.version) {
            self.at_broker(&sent);
        }
    }

    fn at_broker(&mut self, sent: &Sent) {
        match sent {
            Sent::Connect { is_clean } => {
                assert!(!is_clean);
                self.to_session.extend(connack(self.version, self.broker.has_session));
                self.broker.has_session = true;
                self.broker.is_connected = true;
                self.resend();
            }
            Sent::Subscribe(packet_id, filters) => {
                self.to_session.extend(suback(self.version, *packet_id, &vec![2; filters.len()]));
            }
            Sent::Puback(packet_id) => {
                self.answered(*packet_id, 1);
                self.complete(*packet_id);
            }
            Sent::Pubrec(packet_id) => {
                self.answered(*packet_id, 2);
                self.entry(*packet_id).2 = State::Released;
                self.to_session.extend(pubrel(*packet_id));
            }
            Sent::Pubcomp(packet_id) | Sent::PubcompUnknown(packet_id) => {
                assert_eq!(self.entry(*packet_id).2, State::Released, "PUBCOMP before PUBREL");
                self.complete(*packet_id);
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Everything unacknowledged again, in order, with its own packet id [MQTT-4.4.0-1, MQTT-4.6.0-1].
    fn resend(&mut self) {
        for (packet_id, message, state) in &self.broker.in_flight {
            match state {
                State::Released => self.to_session.extend(pubrel(*packet_id)),
                State::Sent => {
                    let qos = self.broker.messages[*message];
                    self.to_session.extend(publish(self.version, qos, *packet_id, true, &message.to_string()));
                    self.broker.unanswered.push_back(*packet_id);
                }
            }
        }
    }

    fn answered(&mut self, packet_id: u16, qos: u8) {
        let first = self.broker.unanswered.pop_front();
        assert_eq!(first, Some(packet_id), "acks leave in receive order, once a receipt");
        let (_, message, state) = *self.entry(packet_id);
        assert_eq!((self.broker.messages[message], state), (qos, State::Sent));
        assert!(self.delivered.contains(&message), "message {message} was acknowledged before it was delivered");
    }

    fn complete(&mut self, packet_id: u16) {
        let (_, message, _) = *self.entry(packet_id);
        self.broker.in_flight.retain(|(id, ..)| *id != packet_id);
        self.broker.completed.insert(message);
    }

    fn entry(&mut self, packet_id: u16) -> &mut (u16, usize, State) {
        self.broker.in_flight.iter_mut().find(|(id, ..)| *id == packet_id).expect("an ack for nothing that was sent")
    }

    fn reconnect(&mut self) {
        self.to_session.clear();
        self.input.clear();
        self.at_broker.clear();
        self.broker.unanswered.clear();
        self.broker.is_connected = false;
        self.session.connect(self.now, &mut self.out).unwrap();
    }

    fn abandon(&mut self) {
        self.session.ack_up_to(Seq(self.watermark), &mut self.out);
        self.session.abandon();
        let kept = self.watermark;
        self.handed_out.retain(|_, seq| *seq < kept);
        for (seq, _) in std::mem::take(&mut self.in_flight) {
            self.settle(seq);
        }
        assert_eq!(self.watermark, self.session.next_seq().0);
        self.reconnect();
    }

    /// No more faults: everything goes through.
    fn finish(&mut self) {
        for _ in 0..10 * (self.broker.messages.len() + 10) {
            for step in [Step::Publish(9), Step::ToSession(9_999), Step::Deliver(0), Step::Ack, Step::ToBroker(9_999)] {
                self.step(&step);
            }
        }
        let acknowledged = |(message, qos): (usize, &u8)| (*qos > 0).then_some(message);
        let expected: BTreeSet<_> = self.broker.messages.iter().enumerate().filter_map(acknowledged).collect();
        assert_eq!(self.broker.completed, expected, "every message is acknowledged in the end");
        assert!(self.delivered.is_superset(&expected));
        assert_eq!((self.session.unacked(), self.session.held(), self.session.window_used()), (0, 0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_reading_is_acknowledged_once_it_is_delivered_and_none_is_lost(
        version in prop::sample::select(&VERSIONS[..]),
        messages in proptest::collection::vec(0..=2_u8, 0..40),
        steps in steps(),
    ) {
        let mut world = World::new(version, messages);
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }
}
