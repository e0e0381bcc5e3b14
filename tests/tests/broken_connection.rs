//! A connection that breaks while readings are in it.

use std::{thread, time::Duration};

use anyhow::ensure;
use sluice_tests::{
    eventually::within,
    kafka::Kafka,
    node::Node,
    pipeline::Pipeline,
    rounds::rounds,
    scripted::{Broker, publish},
    topic::Topic,
};

const READINGS: u16 = 400;
const CHUNK: u16 = 20;

/// A broker that is killed may take what it had sent for handed over, and not send it again. It leaves acks unread, so that its end of the
/// connection is reset: the node, busy with acks, hears of it when it reads or when it writes.
#[test]
fn what_has_come_over_a_connection_is_delivered_though_it_can_no_longer_be_written_to() -> anyhow::Result<()> {
    let kafka = Kafka::shared()?;
    let topic = Topic::create(&kafka, "broken", 6, &[])?;
    let broker = Broker::listen()?;
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let _node = Node::start(&[Pipeline::new("broken", &url, &kafka, &topic.name).yaml()])?;
    let mut sent = 0;
    rounds(|round| {
        for _ in 0..3 {
            let mut link = broker.accept_session(sent > 0)?;
            link.grant_subscription(1)?;
            for first in (1..=READINGS).step_by(usize::from(CHUNK)) {
                let chunk = first..first + CHUNK;
                let chunk = chunk.map(|id| publish(1, id, false, &format!("factory/{}", id % 50), b"21.5"));
                // A segment each, which the kernel hands over at once: what waited for the client's window would go with the reset.
                link.send(&chunk.collect::<anyhow::Result<Vec<_>>>()?.concat())?;
                thread::sleep(Duration::from_micros(500 + round.below(1_500)));
            }
            drop(link);
            sent += i64::from(READINGS);
            within(Duration::from_secs(30), "all has arrived", || {
                let count = topic.count()?;
                ensure!(count == sent, "{count} of {sent}");
                Ok(())
            })?;
        }
        Ok(())
    })
}
