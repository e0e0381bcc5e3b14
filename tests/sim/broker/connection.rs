//! A connection as the broker has it, and what its client does with it: bytes arrive later, in order, and so does its end.

use std::collections::VecDeque;

use bytes::BytesMut;
use sluice_node::pipeline::source::session::Version;

use super::{Broker, ConnectionNo};
use crate::{chance::Chance, fact::Peer, setup::Ms};

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) version: Version,
    pub(super) client_id: Option<String>,
    pub(super) receive_maximum: usize,
    pub(super) to_broker: VecDeque<(Ms, Vec<u8>)>,
    pub(super) to_client: VecDeque<(Ms, Vec<u8>)>,
    pub(super) input: BytesMut,
    /// Packet ids of PUBLISH that PUBACK or PUBREC is due for, in the order sent.
    pub(super) due: VecDeque<u16>,
    /// The client has closed its end, as the broker will see then.
    pub(super) closed_by_client: Option<Ms>,
    pub(super) is_closed_by_broker: bool,
}

impl Broker {
    /// A client opens a connection; none: nobody listens.
    pub(crate) fn open(&mut self, peer: Peer, now: Ms) -> Option<ConnectionNo> {
        if now < self.down_until {
            return None;
        }
        self.made += 1;
        let connection = Connection {
            peer,
            version: Version::V5,
            client_id: None,
            receive_maximum: usize::from(u16::MAX),
            to_broker: VecDeque::new(),
            to_client: VecDeque::new(),
            input: BytesMut::new(),
            due: VecDeque::new(),
            closed_by_client: None,
            is_closed_by_broker: false,
        };
        self.connections.insert(self.made, connection);
        Some(self.made)
    }

    pub(crate) fn write(&mut self, connection: ConnectionNo, bytes: &[u8], now: Ms, chance: &mut Chance) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            let at = (now + chance.below(20)).max(connection.to_broker.back().map_or(0, |(at, _)| *at));
            connection.to_broker.push_back((at, bytes.to_vec()));
        }
    }

    /// What has come to the client; false: the broker has closed the connection, and there is nothing more.
    pub(crate) fn read(&mut self, number: ConnectionNo, input: &mut BytesMut, now: Ms) -> bool {
        let Some(connection) = self.connections.get_mut(&number) else { return false };
        while connection.to_client.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, bytes)) = connection.to_client.pop_front() else { break };
            input.extend_from_slice(&bytes);
        }
        if connection.is_closed_by_broker && connection.to_client.is_empty() && input.is_empty() {
            self.connections.remove(&number);
            return false;
        }
        true
    }

    /// The client closes its end, or its process is gone; the broker sees it then.
    pub(crate) fn close(&mut self, number: ConnectionNo, seen: Ms) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.closed_by_client = Some(seen);
            if connection.is_closed_by_broker {
                self.connections.remove(&number);
            }
        }
    }
}
