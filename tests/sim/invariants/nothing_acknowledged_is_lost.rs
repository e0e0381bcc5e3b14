//! At rest everything that a device saw acknowledged, and that somebody was subscribed to, is in Kafka; but for what the broker itself gave
//! up, or was told to throw away.

use super::{Invariant, ensure};
use crate::world::World;

#[derive(Debug, Default)]
pub(crate) struct Check;

impl Invariant for Check {
    fn name(&self) -> &'static str {
        "nothing_acknowledged_is_lost"
    }

    fn end(&self, world: &World) -> Result<(), String> {
        let (kafka, given_up) = (&world.around.kafka, &world.around.mqtt.given_up);
        let promised = (0..).zip(&world.acknowledged).filter(|(id, groups)| **groups > 0 && !given_up.contains(id));
        let lost: Vec<_> = promised.map(|(id, _)| id).filter(|id| kafka.copies(*id) == 0).collect();
        ensure(lost.is_empty(), || format!("{} readings are lost: {lost:?}", lost.len()))
    }
}
