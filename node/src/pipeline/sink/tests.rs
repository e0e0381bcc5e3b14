//! How many sinks there may be, and a Kafka that is lost from sight.

use std::{os::fd::AsFd as _, time::Duration};

use super::{forgetful::Forgetful, *};
use crate::config::{Manifest, SecretRoots};

fn ask(sink: &Sink, within: Duration) -> Option<i32> {
    sink.partition_queries(false)[0].ask(within)
}

/// Asks while Kafka lists no broker, then once when it lists itself again.
fn forget_for_a_moment(kafka: &Forgetful, sink: &Sink) -> Option<i32> {
    kafka.forgets(true);
    for _ in 0..5 {
        ask(sink, Duration::from_millis(50));
    }
    kafka.forgets(false);
    ask(sink, Duration::from_secs(2))
}

#[test]
fn a_kafka_that_has_forgotten_its_brokers_is_found_again() -> anyhow::Result<()> {
    let kafka = Forgetful::start()?;
    let manifest = format!(
        "{{name: p, source: {{mqtt: {{servers: ['mqtt://h'], topics: [a]}}}}, default_topic: t, sink: {{kafka: {{bootstrap.servers: '{}'}}}}}}",
        kafka.servers()
    );
    let resolved = Manifest::parse(&manifest, "test")?.resolve(&SecretRoots::new(Vec::new()))?;
    let (bell, _ring) = UnixStream::pair()?;
    let (errands, _asked) = mpsc::channel();
    let mut sink = Sink::new(resolved.producer, bell.as_fd(), errands)?;
    sink.topic("t")?;
    assert_eq!(ask(&sink, Duration::from_secs(20)), Some(1));

    // Which of its brokers librdkafka drops first is chance; in some orders it begins anew by itself.
    let mut rounds = 1;
    while forget_for_a_moment(&kafka, &sink).is_some() {
        rounds += 1;
        assert!(rounds <= 100, "librdkafka finds Kafka by itself now: there is no need to tell it");
    }
    eprintln!("lost in round {rounds}");
    let known = kafka.connections();
    assert_eq!(ask(&sink, Duration::from_secs(2)), None);
    assert_eq!(kafka.connections(), known, "it does not even try");

    sink.find_brokers();
    assert_eq!(ask(&sink, Duration::from_secs(20)), Some(1));
    Ok(())
}

#[test]
fn a_sink_beyond_the_bound_is_refused_until_another_has_gone() {
    static SINKS: AtomicUsize = AtomicUsize::new(0);
    let mut counted: Vec<_> = (0..SINKS_MAX).filter_map(|_| Counted::among(&SINKS).ok()).collect();
    assert_eq!(counted.len(), SINKS_MAX);
    assert!(matches!(Counted::among(&SINKS), Err(SinkError::TooManyProducers)));
    counted.pop();
    assert!(Counted::among(&SINKS).is_ok(), "what was refused is not counted");
}
