//! `sink.kafka`: librdkafka properties, checked by name, with Sluice's own settings put in.
//!
//! Every property that librdkafka has for producers passes through, except those that would weaken the delivery guarantee or
//! that Sluice itself must set ([`rules`]). The result is an ordered map that can be compared: shards whose producers would
//! be the same share one.

mod names;
mod producer;
mod properties;
mod rules;

pub use producer::ProducerConfig;
pub(crate) use producer::WeakProducerConfig;
pub use properties::{KafkaProperties, PropertyError};
pub(super) use properties::{canonical, check};
