//! What is acknowledged to the MQTT broker is in Kafka's log by then.

use super::{Invariant, ensure};
use crate::{around::Around, fact::Fact};

#[derive(Debug, Default)]
pub(crate) struct Check;

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "acks_never_pass_the_watermark"
    }

    fn see(&mut self, fact: &Fact, around: &Around) -> Result<(), String> {
        let Fact::Acked { id } = fact else { return Ok(()) };
        ensure(around.kafka.copies(*id) > 0, || format!("reading {id} is acknowledged, and Kafka does not have it"))
    }
}
