//! How many partitions a topic has: asked of the brokers, by whoever may wait.

use std::{sync::Arc, time::Duration};

use super::{TopicNo, native::Native};

/// A question for the brokers that blocks: how many partitions a topic has.
#[derive(Debug)]
pub(crate) struct PartitionQuery {
    pub(super) producer: Arc<Native>,
    pub(super) name: Arc<str>,
    pub(super) topic: TopicNo,
    /// The producer has not heard from its brokers yet.
    pub(super) is_first: bool,
}

impl PartitionQuery {
    /// Whose partitions.
    pub(crate) fn topic(&self) -> TopicNo {
        self.topic
    }

    /// Asks; waits for the answer, up to a limit.
    pub(crate) fn ask(&self, within: Duration) -> Option<i32> {
        let count = self.producer.partition_count(&self.name, within);
        // A new producer needs an id. It looks for a broker to ask when an answer about metadata comes, and then every 500 ms; but the first
        // answer comes from a bootstrap connection that librdkafka drops with it. A second comes from the broker itself.
        if self.is_first && count.is_ok() {
            // What was heard stays known, whatever becomes of this one.
            drop(self.producer.partition_count(&self.name, within));
        }
        if let Err(error) = &count {
            tracing::debug!(topic = %self.name, %error, "partition count not known yet");
        }
        count.ok()
    }
}
