//! On a connection PUBACK and PUBREC leave in the order in which the packets came, once for each receipt [MQTT-4.6.0-2, MQTT-4.6.0-3].

use super::{Invariant, ensure};
use crate::{around::Around, fact::Fact};

#[derive(Debug, Default)]
pub(crate) struct Check;

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "acks_leave_in_receive_order"
    }

    fn see(&mut self, fact: &Fact, _: &Around) -> Result<(), String> {
        let Fact::Answered { connection, packet_id, due } = fact else { return Ok(()) };
        ensure(*due == Some(*packet_id), || {
            format!("connection {connection}: packet {packet_id} is acknowledged, and {due:?} was due")
        })
    }
}
