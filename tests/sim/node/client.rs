//! A node's stay with the leader: drives the product's `KeepAlives`, `Told` and `Change`, as `attach::client` does.

use std::{collections::BTreeMap, time::Instant};

use sluice_coordinator::{
    attach::{Answer, Down, Hello, KeepAlives, Told},
    model::{Generation, Owner, State},
};

use super::{name, raft_id};
use crate::{
    around::Around,
    fact::Fact,
    net::{LinkNo, Mail},
    setup::{KEEP_ALIVE, LEASE, Ms, OWN_KEEP_ALIVE, millis},
};

/// Between two rounds of looking for the leader.
const LOOK_EVERY: Ms = 60;

#[derive(Debug)]
pub(crate) struct Client {
    me: usize,
    life: u64,
    pub(crate) generation: Option<Generation>,
    pub(crate) lease: Told,
    pub(crate) part: State,
    /// Of the part, the first that this life has heard is in it.
    pub(crate) has_part: bool,
    /// This process can never be part of the cluster again.
    pub(crate) is_rejected: bool,
    stay: Option<Stay>,
    looks_at: Ms,
}

#[derive(Debug)]
struct Stay {
    link: LinkNo,
    leader: usize,
    began_in: u64,
    sent: KeepAlives,
    /// When each keep-alive was sent, for who looks on.
    times: BTreeMap<u64, Instant>,
    is_welcome: bool,
    patience: Ms,
    keeps_alive_at: Ms,
}

impl Client {
    pub(crate) fn new(me: usize, life: u64) -> Self {
        Self {
            me,
            life,
            generation: None,
            lease: Told::default(),
            part: State::default(),
            has_part: false,
            is_rejected: false,
            stay: None,
            looks_at: 0,
        }
    }

    pub(crate) fn owner(&self) -> Option<Owner> {
        Some(Owner { node: name(self.me), generation: self.generation? })
    }

    pub(crate) fn step(&mut self, around: &mut Around) {
        let now = around.now;
        if let Some(stay) = &mut self.stay {
            let hears_of = around.raft.leader.filter(|leader| around.net.reaches(*leader, self.me));
            let is_over = around.raft.term > stay.began_in && hears_of.is_some_and(|leader| leader != stay.leader);
            if now >= stay.patience || is_over {
                self.leave(around);
                self.looks_at = now + around.chance.below(LOOK_EVERY);
                return;
            }
            if stay.is_welcome && now >= stay.keeps_alive_at {
                let number = stay.sent.send(around.setup.clock.at(now));
                stay.times.insert(number, around.setup.clock.at(now));
                stay.keeps_alive_at = now + if stay.leader == self.me { OWN_KEEP_ALIVE } else { KEEP_ALIVE };
                let mail = Mail::KeepAlive(stay.link, number);
                around.net.send(self.me, stay.leader, mail, now, &mut around.chance);
            }
        } else if now >= self.looks_at {
            self.look(around);
        }
    }

    /// Takes in what the leader tells in this node's stay.
    pub(crate) fn take(&mut self, link: LinkNo, down: Down, around: &mut Around) {
        let Some(stay) = self.stay.as_mut().filter(|stay| stay.link == link) else { return };
        match down {
            Down::Welcome { generation, .. } => {
                stay.is_welcome = true;
                stay.patience = around.now + millis(LEASE) / 2;
                self.generation = Some(generation);
            }
            Down::Part(change, is_last) => {
                change.apply(&mut self.part);
                self.has_part |= is_last;
            }
            Down::Answer(Answer { number, lease, .. }) => {
                if let Some(sent_at) = stay.sent.answered(number) {
                    stay.patience = around.now + millis(LEASE) / 2;
                    self.lease.answered(sent_at, lease);
                    let sent_at = stay.times.remove(&number).unwrap_or(sent_at);
                    around.facts.push(Fact::Leased { node: self.me, sent_at, lease });
                }
            }
            Down::Refused(why) => {
                around.trace.say(around.now, format_args!("node {} is rejected: {why}", self.me));
                self.lease.end();
                (self.is_rejected, self.stay) = (true, None);
            }
            Down::NotLeader(_) => self.stay = None,
        }
    }

    /// The leader has ended a stay.
    pub(crate) fn closed(&mut self, link: LinkNo) {
        self.stay.take_if(|stay| stay.link == link);
    }

    /// Ends the stay, if there is one.
    pub(crate) fn leave(&mut self, around: &mut Around) {
        if let Some(stay) = self.stay.take() {
            around.net.send(self.me, stay.leader, Mail::Left(stay.link), around.now, &mut around.chance);
        }
    }

    fn look(&mut self, around: &mut Around) {
        let now = around.now;
        self.looks_at = now + LOOK_EVERY;
        let Some(leader) = around.leader_for(self.me) else { return };
        let link = around.net.link();
        let hello = Hello {
            name: name(self.me),
            raft_id: raft_id(self.me),
            address: String::new(),
            admin_address: String::new(),
            generation: self.generation,
            life: self.life,
        };
        around.net.send(self.me, leader, Mail::Hello(link, Box::new(hello)), now, &mut around.chance);
        self.stay = Some(Stay {
            link,
            leader,
            began_in: around.raft.term,
            sent: KeepAlives::default(),
            times: BTreeMap::new(),
            is_welcome: false,
            patience: now + millis(LEASE),
            keeps_alive_at: now,
        });
    }
}
