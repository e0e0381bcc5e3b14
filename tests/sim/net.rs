//! The network among nodes: mail in order, delayed, stuck where it is cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sluice_coordinator::{
    attach::{Down, Hello},
    machine::{Command, Outcome},
};

use crate::{chance::Chance, setup::Ms};

/// A stream or call between two nodes; never given twice.
pub(crate) type LinkNo = u64;

/// What nodes send each other.
#[derive(Debug)]
pub(crate) enum Mail {
    Hello(LinkNo, Box<Hello>),
    KeepAlive(LinkNo, u64),
    /// The node has left its stay, or its process is gone.
    Left(LinkNo),
    Down(LinkNo, Down),
    /// The leader has ended the stay.
    Closed(LinkNo),
    Propose(LinkNo, Box<Command>),
    /// None: nothing was changed, another leads.
    Outcome(LinkNo, Option<Box<Outcome>>),
}

#[derive(Debug, Default)]
pub(crate) struct Net {
    links: LinkNo,
    under_way: BTreeMap<(usize, usize), VecDeque<(Ms, Mail)>>,
    cut: BTreeSet<(usize, usize)>,
    /// Nodes that do not reach the MQTT broker.
    cut_from_broker: BTreeSet<usize>,
}

impl Net {
    pub(crate) fn link(&mut self) -> LinkNo {
        self.links += 1;
        self.links
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, mail: Mail, now: Ms, chance: &mut Chance) {
        let queue = self.under_way.entry((from, to)).or_default();
        let slow = if chance.one_in(50) { 200 } else { 15 };
        let delay = if from == to { 0 } else { chance.below(slow) };
        let at = (now + delay).max(queue.back().map_or(0, |(at, _)| *at));
        queue.push_back((at, mail));
    }

    /// The mail that has come to `to`.
    pub(crate) fn receive(&mut self, to: usize, now: Ms) -> Vec<(usize, Mail)> {
        let mut come = Vec::new();
        for ((from, whom), queue) in &mut self.under_way {
            if *whom != to || self.cut.contains(&(*from, *whom)) {
                continue;
            }
            while queue.front().is_some_and(|(at, _)| *at <= now) {
                come.extend(queue.pop_front().map(|(_, mail)| (*from, mail)));
            }
        }
        come
    }

    /// Nobody is there to take it: connections to a process that is gone are refused.
    pub(crate) fn refuse(&mut self, to: usize) {
        self.under_way.retain(|(_, whom), _| *whom != to);
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        if from != to {
            self.cut.insert((from, to));
        }
    }

    pub(crate) fn cut_from_broker(&mut self, node: usize) {
        self.cut_from_broker.insert(node);
    }

    /// Everybody reaches everybody again. Of the calls that were stuck some go on their way, and some were given up; streams go on.
    pub(crate) fn heal(&mut self, chance: &mut Chance) {
        for pair in std::mem::take(&mut self.cut) {
            if let Some(queue) = self.under_way.get_mut(&pair).filter(|_| chance.one_in(2)) {
                queue.retain(|(_, mail)| !matches!(mail, Mail::Propose(..) | Mail::Outcome(..)));
            }
        }
        self.cut_from_broker.clear();
    }

    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Both ways.
    pub(crate) fn is_joined(&self, a: usize, b: usize) -> bool {
        self.reaches(a, b) && self.reaches(b, a)
    }

    pub(crate) fn reaches_broker(&self, node: usize) -> bool {
        !self.cut_from_broker.contains(&node)
    }
}
