//! A node's words to the log: drives the product's `checkpoint::{news, take}`, as the checkpointer's service and the proposals' client do:
//! one proposal at a time, again while its fate is unknown, up to a deadline.

use std::{collections::BTreeMap, sync::Arc};

use sluice_coordinator::{
    machine::{Command, Outcome, RecordCheckpoints},
    model::{Checkpoint, Owner, ShardId},
};
use sluice_node::{
    pipeline::checkpoint::{news, take},
    registry::Task as Meters,
};

use crate::{
    around::Around,
    net::{LinkNo, Mail},
    setup::Ms,
};

/// As in the product.
const EVERY: Ms = 1_000;
const PROPOSE_WITHIN: Ms = 10_000;
const ATTEMPT_WITHIN: Ms = 3_000;
const RETRY_AFTER: Ms = 50;

/// A task's word.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    pub(crate) meters: Arc<Meters>,
    /// The task's in its table.
    pub(crate) number: u64,
    pub(crate) why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Before a session is opened.
    First,
    /// What may be lost on the way.
    Soon,
    /// The task has ended.
    Last { is_release: bool },
}

/// What became of a word.
#[derive(Debug)]
pub(crate) enum Fate {
    /// What is in the log now.
    Recorded(Box<Checkpoint>),
    Refused,
    Unavailable,
}

#[derive(Debug)]
pub(crate) struct Words {
    node: usize,
    me: Owner,
    waiting: Vec<Word>,
    call: Option<Call>,
    next: Ms,
    last: BTreeMap<ShardId, Checkpoint>,
}

#[derive(Debug)]
struct Call {
    words: Vec<Word>,
    command: Command,
    checkpoints: Vec<(ShardId, Checkpoint)>,
    until: Ms,
    attempt: Option<(LinkNo, Ms)>,
    again_at: Ms,
}

impl Words {
    pub(crate) fn new(node: usize, me: Owner, now: Ms) -> Self {
        Self { node, me, waiting: Vec::new(), call: None, next: now + EVERY, last: BTreeMap::new() }
    }

    pub(crate) fn say(&mut self, word: Word) {
        self.waiting.push(word);
    }

    /// Goes on with the proposal under way, or makes the next. Returns words whose fate is known.
    pub(crate) fn step(&mut self, tasks: &[Arc<Meters>], around: &mut Around) -> Vec<(Word, Fate)> {
        if self.call.is_none() {
            self.begin(tasks, around);
        }
        let Some(call) = &mut self.call else { return Vec::new() };
        let now = around.now;
        if call.attempt.is_some_and(|(_, until)| now >= until) {
            (call.attempt, call.again_at) = (None, now + RETRY_AFTER);
        }
        if now >= call.until {
            return self.end(|_, _| Fate::Unavailable);
        }
        if call.attempt.is_none() && now >= call.again_at {
            call.again_at = now + RETRY_AFTER;
            if let Some(leader) = around.leader_for(self.node) {
                let link = around.net.link();
                call.attempt = Some((link, now + ATTEMPT_WITHIN));
                let mail = Mail::Propose(link, Box::new(call.command.clone()));
                around.net.send(self.node, leader, mail, now, &mut around.chance);
            }
        }
        Vec::new()
    }

    /// The leader's answer to a proposal.
    pub(crate) fn answered(&mut self, link: LinkNo, outcome: Option<Outcome>, now: Ms) -> Vec<(Word, Fate)> {
        let Some(call) = self.call.as_mut().filter(|call| call.attempt.is_some_and(|(mine, _)| mine == link)) else {
            return Vec::new();
        };
        let Some(Outcome::Recorded { refused }) = outcome else {
            (call.attempt, call.again_at) = (None, now + RETRY_AFTER);
            return Vec::new();
        };
        let is_refused = |shard: &ShardId| refused.iter().any(|refused| refused.shard == *shard);
        let taken = call.checkpoints.iter().filter(|(shard, _)| !is_refused(shard)).cloned();
        self.last.extend(taken);
        self.end(|shard, said| if is_refused(shard) { Fate::Refused } else { Fate::Recorded(Box::new(said)) })
    }

    fn begin(&mut self, tasks: &[Arc<Meters>], around: &mut Around) {
        let unix = around.setup.clock.unix(around.now);
        let (words, checkpoints) = if !self.waiting.is_empty() {
            let words = std::mem::take(&mut self.waiting);
            let is_released = |word: &Word| word.why == Why::Last { is_release: true };
            let said = |word: &Word| (word.meters.shard.clone(), take(&word.meters, is_released(word), unix));
            let checkpoints = words.iter().map(said).collect();
            (words, checkpoints)
        } else if around.now >= self.next {
            self.next = around.now + EVERY;
            self.last.retain(|shard, _| tasks.iter().any(|task| task.shard == *shard));
            (Vec::new(), news(tasks, &self.last, unix))
        } else {
            return;
        };
        if checkpoints.is_empty() {
            return;
        }
        let kind = RecordCheckpoints { node: self.me.clone(), checkpoints: checkpoints.clone() }.into();
        self.call = Some(Call {
            words,
            command: Command { proposed_at: unix, kind },
            checkpoints,
            until: around.now + PROPOSE_WITHIN,
            attempt: None,
            again_at: around.now,
        });
    }

    fn end(&mut self, fate: impl Fn(&ShardId, Checkpoint) -> Fate) -> Vec<(Word, Fate)> {
        let Some(Call { words, checkpoints, .. }) = self.call.take() else { return Vec::new() };
        // Each word has its checkpoint; without words, they were changes that nobody waits for.
        words.into_iter().zip(checkpoints).map(|(word, (shard, said))| (word, fate(&shard, said))).collect()
    }
}
