//! A model Kafka: a log a partition, producers that are idempotent, reports that come late and in any order, an outage.
//!
//! A producer hands its records of one partition over in order and each once, as an idempotent one does [KIP-98]. When its process dies, what
//! it had handed over may still arrive, up to some record; nobody hears of it.

use std::collections::{BTreeMap, VecDeque};

use crate::{chance::Chance, setup::Ms};

/// A reading's number: how the oracle knows it.
pub(crate) type Id = u32;

/// A producer's number; each process and each producer that follows a dead one has its own.
pub(crate) type ProducerNo = u64;

const PARTITIONS: u32 = 3;

/// What a delivery report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    /// The task and its reading.
    pub(crate) opaque: (u64, u64),
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Kafka {
    /// How often each reading was written, by its number.
    copies: Vec<u32>,
    ends: [i64; PARTITIONS as usize],
    producers: BTreeMap<ProducerNo, Producer>,
    made: ProducerNo,
    down_until: Ms,
}

#[derive(Debug, Default)]
struct Producer {
    /// By partition, in order.
    under_way: [VecDeque<Record>; PARTITIONS as usize],
    reports: Vec<(Ms, Report)>,
    is_dead: bool,
}

#[derive(Debug)]
struct Record {
    id: Id,
    opaque: (u64, u64),
    arrives: Ms,
    reported: Ms,
}

impl Kafka {
    pub(crate) fn producer(&mut self) -> ProducerNo {
        self.made += 1;
        self.producers.insert(self.made, Producer::default());
        self.made
    }

    /// Hands a record over.
    pub(crate) fn produce(&mut self, by: ProducerNo, id: Id, opaque: (u64, u64), now: Ms, chance: &mut Chance) {
        let Some(producer) = self.producers.get_mut(&by) else { return };
        let queue = &mut producer.under_way[(id % PARTITIONS) as usize];
        let slow = if chance.one_in(20) { 300 } else { 30 };
        let arrives = (now + chance.below(slow)).max(queue.back().map_or(0, |last| last.arrives));
        queue.push_back(Record { id, opaque, arrives, reported: chance.below(slow) });
    }

    /// The process is gone, or the producer has failed for good: what is under way may arrive in part.
    pub(crate) fn kill(&mut self, producer: ProducerNo, chance: &mut Chance) {
        let Some(producer) = self.producers.get_mut(&producer) else { return };
        producer.is_dead = true;
        for queue in &mut producer.under_way {
            queue.truncate(chance.place(queue.len() + 1));
        }
    }

    pub(crate) fn go_down(&mut self, until: Ms) {
        self.down_until = self.down_until.max(until);
    }

    pub(crate) fn heal(&mut self) {
        self.down_until = 0;
    }

    /// Takes in what has arrived.
    pub(crate) fn step(&mut self, now: Ms) {
        if now < self.down_until {
            return;
        }
        for producer in self.producers.values_mut() {
            for (partition, queue) in (0_i32..).zip(&mut producer.under_way) {
                while queue.front().is_some_and(|record| record.arrives <= now) {
                    let Some(record) = queue.pop_front() else { break };
                    let at = record.id as usize;
                    if self.copies.len() <= at {
                        self.copies.resize(at + 1, 0);
                    }
                    self.copies[at] += 1;
                    let end = &mut self.ends[partition.unsigned_abs() as usize];
                    let report = Report { opaque: record.opaque, partition, offset: *end };
                    *end += 1;
                    producer.reports.push((now + record.reported, report));
                }
            }
        }
        self.producers.retain(|_, producer| !producer.is_dead || producer.under_way.iter().any(|q| !q.is_empty()));
    }

    /// The reports that have come to a living producer.
    pub(crate) fn reports(&mut self, producer: ProducerNo, now: Ms) -> Vec<Report> {
        let Some(producer) = self.producers.get_mut(&producer) else { return Vec::new() };
        if producer.reports.iter().all(|(at, _)| *at > now) {
            return Vec::new();
        }
        let (due, later) = std::mem::take(&mut producer.reports).into_iter().partition(|(at, _)| *at <= now);
        producer.reports = later;
        let due: Vec<_> = due;
        due.into_iter().map(|(_, report)| report).collect()
    }

    /// How often a reading was written.
    pub(crate) fn copies(&self, id: Id) -> u32 {
        self.copies.get(id as usize).copied().unwrap_or(0)
    }
}
