//! A node's process, which a kill ends with all that it remembers: its stay with the leader, its table of tasks, the tasks. Drives the product's
//! `Table` as the supervisor does.

use std::sync::Arc;

use sluice_coordinator::model::{MemberState, Owner, Revision, ShardId};
use sluice_node::{
    lane::course::{End, Purpose, Stop},
    registry::{State as Status, Task as Meters},
    task::{
        claim::Claim,
        desired::{Desired, background},
        lifecycle::Phase,
        table::{LastWord, Step, Table},
    },
};

use super::{
    client::Client,
    task::{Surroundings, Task},
    words::{Fate, Why, Word, Words},
};
use crate::{
    around::Around,
    fact::{Fact, Peer},
    kafka::ProducerNo,
    mutant::Mutant,
    net::Mail,
    setup::{DRAIN_DEADLINE, Ms},
};

/// As in the product: tasks that wait for their next try are looked at, and a last word that did not get through is said again.
const LOOK_EVERY: Ms = 1_000;

#[derive(Debug)]
pub(crate) struct Process {
    node: usize,
    pub(crate) client: Client,
    work: Option<Work>,
    producer: ProducerNo,
}

/// What there is once the node has a generation.
#[derive(Debug)]
struct Work {
    me: Owner,
    table: Table<Arc<Meters>>,
    tasks: Vec<Task>,
    words: Words,
    /// Last words that did not get through.
    again: Vec<(Ms, Word)>,
    looks_at: Ms,
    was_leased: bool,
}

impl Process {
    pub(crate) fn new(node: usize, life: u64, around: &mut Around) -> Self {
        Self { node, client: Client::new(node, life), work: None, producer: around.kafka.producer() }
    }

    pub(crate) fn take(&mut self, mail: Mail, around: &mut Around) {
        match mail {
            Mail::Down(link, down) => {
                let before = around.is_mutant(Mutant::EpochUnchecked).then(|| self.client.part.clone());
                self.client.take(link, down, around);
                if let (Some(before), Some(work)) = (before, &mut self.work) {
                    for (shard, _) in work.table.iter() {
                        if let Some(told) = before.shards.get(shard) {
                            self.client.part.shards.insert(shard.clone(), told.clone());
                        }
                    }
                    for (name, told) in before.pipelines {
                        self.client.part.pipelines.entry(name).or_insert(told);
                    }
                }
                self.work.iter_mut().for_each(|work| work.looks_at = 0);
            }
            Mail::Closed(link) => self.client.closed(link),
            Mail::Outcome(link, outcome) => {
                if let Some(work) = &mut self.work {
                    let said = work.words.answered(link, outcome.map(|outcome| *outcome), around.now);
                    work.said(said, &self.client, around);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn step(&mut self, around: &mut Around) {
        self.client.step(around);
        if self.work.is_none()
            && let Some(me) = self.client.owner().filter(|_| self.client.has_part)
        {
            self.work = Some(Work {
                table: Table::new(me.clone()),
                words: Words::new(self.node, me.clone(), around.now),
                me,
                tasks: Vec::new(),
                again: Vec::new(),
                looks_at: 0,
                was_leased: false,
            });
        }
        if let Some(work) = &mut self.work {
            work.step(self.node, &self.client, self.producer, around);
        }
    }

    /// The process is gone.
    pub(crate) fn killed(&mut self, around: &mut Around) {
        self.client.leave(around);
        around.kafka.kill(self.producer, &mut around.chance);
        self.tasks().for_each(|task| task.killed(around));
        around.facts.push(Fact::Ended { node: self.node });
    }

    /// The producer has failed for good; another takes over.
    pub(crate) fn producer_dies(&mut self, around: &mut Around) {
        around.kafka.kill(self.producer, &mut around.chance);
        self.producer = around.kafka.producer();
        for task in self.work.iter_mut().flat_map(|work| &mut work.tasks) {
            task.producer_died(around);
        }
    }

    /// The coordinator knows that it is stopping, and it has nothing left to do.
    pub(crate) fn has_left(&self) -> bool {
        let known = self.client.part.members.values().any(|member| member.state == MemberState::Stopping);
        known && self.work.as_ref().is_none_or(|work| work.table.is_empty()) && self.client.part.shards.is_empty()
    }

    pub(crate) fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.work.iter().flat_map(|work| &work.tasks)
    }
}

impl Work {
    fn step(&mut self, node: usize, client: &Client, producer: ProducerNo, around: &mut Around) {
        let meters: Vec<_> = self.table.iter().map(|(_, entry)| Arc::clone(&entry.held)).collect();
        let said = self.words.step(&meters, around);
        self.said(said, client, around);
        let (due, later): (Vec<_>, Vec<_>) = self.again.drain(..).partition(|(at, _)| *at <= around.now);
        self.again = later;
        due.into_iter().for_each(|(_, word)| self.words.say(word));

        let is_leased = client.lease.is_valid(around.instant());
        if around.now >= self.looks_at || is_leased && !self.was_leased {
            self.looks_at = around.now + LOOK_EVERY;
            self.reconcile(node, client, is_leased, around);
        }
        self.was_leased = is_leased;

        let reports = around.kafka.reports(producer, around.now);
        for report in &reports {
            self.task(report.opaque.0).into_iter().for_each(|task| task.delivered(report));
        }
        let here = Surroundings { lease: client.lease, part: &client.part, producer };
        let mut ends = Vec::new();
        for task in &mut self.tasks {
            if !reports.is_empty() {
                task.settle();
            }
            ends.extend(task.step(here, around).map(|end| (task.number, end)));
            if std::mem::take(&mut task.has_news) {
                let word = Word { meters: Arc::clone(&task.meters), number: task.number, why: Why::Soon };
                self.words.say(word);
            }
        }
        for (number, end) in ends {
            self.ended(number, &end, client, around);
        }
    }

    fn reconcile(&mut self, node: usize, client: &Client, is_leased: bool, around: &mut Around) {
        for (shard, step) in self.table.steps(&client.part, is_leased, around.instant()) {
            around.trace.say(around.now, format_args!("node {node} {shard}: {step:?}"));
            match step {
                Step::Start(wanted) => self.start(node, client, &shard, &wanted, around),
                Step::Stop => {
                    self.table.stopping(&shard);
                    let number = self.table.get(&shard).map_or(0, |entry| entry.number);
                    let deadline = around.instant() + DRAIN_DEADLINE;
                    if let Some(task) = self.task(number) {
                        task.meters.set_status(Status::Draining, "");
                        task.stop = Some(Stop { deadline });
                    }
                }
                Step::GiveBack => self.give_back(client, &shard, around),
                Step::Release => {
                    self.table.stopping(&shard);
                    if let Some(entry) = self.table.get(&shard) {
                        entry.held.set_status(Status::Stopped, "");
                        let (meters, number) = (Arc::clone(&entry.held), entry.number);
                        self.words.say(Word { meters, number, why: Why::Last { is_release: true } });
                    }
                }
            }
        }
    }

    fn start(&mut self, node: usize, client: &Client, shard: &ShardId, wanted: &Desired, around: &mut Around) {
        let last = self.table.last_word(shard, wanted.epoch, around.setup.clock.unix(around.now));
        let Some(background) = background(&client.part, shard, wanted, last.as_ref()) else { return };
        let meters = Arc::new(Meters::new(shard.clone(), wanted.epoch));
        if let Some(checkpoint) = &background.checkpoint {
            meters.resume(checkpoint);
        }
        meters.set_session(background.session.clone());
        let held = Arc::clone(&meters);
        let number = self.table.insert(shard, wanted.clone(), Phase::Running, held, around.instant());
        let claim = Claim { me: self.me.clone(), shard: shard.clone(), epoch: wanted.epoch };
        let peer = Peer {
            node,
            generation: self.me.generation,
            shard: shard.clone(),
            epoch: wanted.epoch,
            discards: wanted.purpose == Purpose::Discard,
        };
        let (task, must_be_told) =
            Task::new(number, peer, claim, wanted.clone(), &background, Arc::clone(&meters), around);
        self.tasks.push(task);
        if must_be_told {
            self.words.say(Word { meters, number, why: Why::First });
        }
    }

    fn give_back(&mut self, client: &Client, shard: &ShardId, around: &mut Around) {
        let Some(told) = client.part.shards.get(shard) else { return };
        let meters = Arc::new(Meters::new(shard.clone(), told.epoch));
        let last = self.table.last_word(shard, told.epoch, around.setup.clock.unix(around.now));
        if let Some(checkpoint) = last.as_ref().or_else(|| client.part.checkpoints.get(shard)) {
            meters.resume(checkpoint);
        }
        meters.set_session(last.map_or_else(|| told.session.clone(), |last| last.session));
        meters.set_status(Status::Stopped, "");
        let desired = Desired { epoch: told.epoch, purpose: Purpose::Run, revision: Revision::default() };
        let held = Arc::clone(&meters);
        let number = self.table.insert(shard, desired, Phase::Stopping, held, around.instant());
        self.words.say(Word { meters, number, why: Why::Last { is_release: true } });
    }

    fn ended(&mut self, number: u64, end: &End, client: &Client, around: &mut Around) {
        let Some(at) = self.tasks.iter().position(|task| task.number == number) else { return };
        let task = self.tasks.swap_remove(at);
        let (shard, epoch) = (&task.peer.shard, task.peer.epoch);
        around.trace.say(around.now, format_args!("node {} {shard} at epoch {epoch}: {end:?}", task.peer.node));
        if *end == End::Retired {
            around.coverage.count("retirements");
        }
        let word = self.table.ended(shard, epoch, end, &client.part, around.instant());
        if let (Some(LastWord { is_release }), Some(entry)) = (word, self.table.get(shard)) {
            let (meters, number) = (Arc::clone(&entry.held), entry.number);
            self.words.say(Word { meters, number, why: Why::Last { is_release } });
        }
        self.looks_at = 0;
    }

    fn said(&mut self, said: Vec<(Word, Fate)>, client: &Client, around: &mut Around) {
        for (word, fate) in said {
            match (word.why, fate) {
                (Why::Soon, _) => {}
                (Why::First, fate) => {
                    let is_recorded = matches!(fate, Fate::Recorded(_));
                    let end = self.task(word.number).and_then(|task| task.first_word(is_recorded));
                    if let Some(end) = end {
                        self.ended(word.number, &end, client, around);
                    }
                }
                (Why::Last { .. }, Fate::Unavailable) => self.again.push((around.now + LOOK_EVERY, word)),
                (Why::Last { .. }, fate) => {
                    let recorded = if let Fate::Recorded(checkpoint) = fate { Some(*checkpoint) } else { None };
                    self.table.said(&word.meters.shard, word.number, recorded);
                    self.looks_at = 0;
                }
            }
        }
    }

    fn task(&mut self, number: u64) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.number == number)
    }
}
