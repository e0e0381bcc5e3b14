//! What a lane may not wait for: partition counts are asked for, and producers ended, on a thread beside it.
//!
//! Ends when nobody is left who could send an errand: the lane, and every producer that it had.

use std::{
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;

use super::Answer;
use crate::pipeline::sink::Errand;

/// Runs errands in the order they come. Every question is answered, if only with none.
pub(super) fn run(errands: &Receiver<Errand>, answers: &UnboundedSender<Answer>, within: Duration) {
    let mut silent = None;
    while let Ok(errand) = errands.recv() {
        let (place, round, query) = match errand {
            Errand::Count { place, round, query } => (place, round, query),
            Errand::End(remains) => {
                drop(remains);
                continue;
            }
        };
        // A Kafka that let one question of a round run out would let the others, too, and those of another Kafka wait behind them.
        let is_asked = silent != Some((place, round)) && !answers.is_closed();
        let asked_at = Instant::now();
        let count = if is_asked { query.ask(within) } else { None };
        if is_asked && count.is_none() && asked_at.elapsed() >= within {
            silent = Some((place, round));
        }
        // Nobody listens when the lane ends.
        let _ = answers.send((place, query.topic(), count));
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsFd, os::unix::net::UnixStream, sync::mpsc, thread};

    use super::*;
    use crate::{
        config::{Manifest, SecretRoots},
        pipeline::sink::Sink,
    };

    const WITHIN: Duration = Duration::from_millis(500);

    /// A sink for a Kafka that takes connections and never answers.
    fn sink(errands: mpsc::Sender<Errand>, bell: &UnixStream, mute: &TcpListener) -> anyhow::Result<Sink> {
        let kafka = mute.local_addr()?;
        let manifest = format!(
            "{{name: p, source: {{mqtt: {{servers: ['mqtt://h'], topics: [a]}}}}, default_topic: t, sink: {{kafka: {{bootstrap.servers: '{kafka}'}}}}}}"
        );
        let resolved = Manifest::parse(&manifest, "test")?.resolve(&SecretRoots::new(Vec::new()))?;
        let mut sink = Sink::new(resolved.producer, bell.as_fd(), errands)?;
        for topic in ["a", "b", "c", "d"] {
            sink.topic(topic)?;
        }
        Ok(sink)
    }

    #[test]
    fn a_silent_kafka_is_asked_once_a_round_and_ending_its_producer_keeps_nobody_waiting() -> anyhow::Result<()> {
        let (errands, asked) = mpsc::channel();
        let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel();
        let (bell, _ring) = UnixStream::pair()?;
        let mute = TcpListener::bind("127.0.0.1:0")?;
        let sink = sink(errands.clone(), &bell, &mute)?;
        let started = Instant::now();
        let thread = thread::spawn(move || run(&asked, &answers, WITHIN));
        for round in 0..2 {
            for query in sink.partition_queries(false) {
                errands.send(Errand::Count { place: 7, round, query })?;
            }
        }
        let answers: Vec<_> = (0..8).filter_map(|_| answered.blocking_recv()).collect();
        assert_eq!(answers.len(), 8);
        assert!(answers.iter().all(|(place, _, count)| *place == 7 && count.is_none()));
        let took = started.elapsed();
        assert!(took >= 2 * WITHIN && took < 4 * WITHIN, "once in each round: {took:?}");
        let dropping = Instant::now();
        drop(sink);
        assert!(dropping.elapsed() < Duration::from_millis(100), "{:?}", dropping.elapsed());
        drop(errands);
        assert!(thread.join().is_ok(), "it ends with the last producer");
        Ok(())
    }
}
