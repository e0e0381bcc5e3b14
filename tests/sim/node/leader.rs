//! The leader's part of a node: drives the product's `attach::Leading` and `plan`, as `Stays` and the leader's loop do.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use sluice_coordinator::{
    Handovers,
    attach::{Admission, Down, Footing, Hello, Leading, Rejection},
    machine::{Command, InitCluster, Outcome, RegisterMember},
    model::NodeName,
    plan::{Inputs, plan},
};
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::{name, raft_id};
use crate::{
    around::Around,
    net::{LinkNo, Mail},
    raft::Asker,
    setup::{LEASE, Ms},
};

/// As in the product's loop: every tenth of a second, and soon after an applied command.
const TURN_EVERY: Ms = 100;
const COMMANDS_PER_TURN_MAX: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Leader {
    leading: Option<Leading>,
    guests: Vec<Guest>,
    /// Those that need a generation, one after the other.
    hellos: VecDeque<(usize, LinkNo, Hello)>,
    is_registering: bool,
    /// Commands of the plan that have no outcome yet.
    planned: usize,
    handovers: Handovers,
    turned_at: Ms,
    turned_index: u64,
}

#[derive(Debug)]
struct Guest {
    link: LinkNo,
    at: usize,
    node: NodeName,
    stay: u64,
    inbox: mpsc::Receiver<Down>,
}

impl Leader {
    pub(crate) fn take(&mut self, me: usize, from: usize, mail: Mail, around: &mut Around) {
        self.refresh(me, around);
        match mail {
            Mail::Hello(link, hello) => self.hello(me, from, link, *hello, around),
            Mail::KeepAlive(link, number) => {
                let guest = self.guests.iter().find(|guest| guest.link == link);
                if let (Some(guest), Some(leading)) = (guest, &mut self.leading) {
                    leading.keep_alive(&guest.node, guest.stay, number, around.instant());
                }
            }
            Mail::Left(link) => {
                if let Some(at) = self.guests.iter().position(|guest| guest.link == link) {
                    let guest = self.guests.swap_remove(at);
                    self.leading.iter_mut().for_each(|leading| leading.close(&guest.node, guest.stay));
                }
            }
            Mail::Propose(link, command) => {
                let asker = Asker::Call { node: from, link };
                if !around.raft.write(me, asker, *command, around.now, &mut around.chance) {
                    around.net.send(me, from, Mail::Outcome(link, None), around.now, &mut around.chance);
                }
            }
            Mail::Down(..) | Mail::Closed(_) | Mail::Outcome(..) => {}
        }
    }

    /// A command that this leader took in was applied.
    pub(crate) fn answered(&mut self, me: usize, asker: Asker, outcome: Outcome, around: &mut Around) {
        match asker {
            Asker::Plan => self.planned = self.planned.saturating_sub(1),
            Asker::Operator => {}
            Asker::Call { node, link } => {
                let mail = Mail::Outcome(link, Some(Box::new(outcome)));
                around.net.send(me, node, mail, around.now, &mut around.chance);
            }
            Asker::Hello(link) => {
                self.is_registering = false;
                let at = self.hellos.iter().position(|(_, waiting, _)| *waiting == link);
                let Some((from, link, hello)) = at.and_then(|at| self.hellos.remove(at)) else { return };
                match (outcome, &mut self.leading) {
                    (Outcome::Registered { generation }, Some(leading)) => {
                        leading.registered(&hello, generation);
                        self.open(from, link, &hello, generation, around);
                    }
                    (Outcome::Refused(refusal), _) => {
                        let why = Rejection::WrongDisk(refusal.message);
                        around.net.send(me, from, Mail::Down(link, Down::Refused(why)), around.now, &mut around.chance);
                    }
                    _ => self.hello(me, from, link, hello, around),
                }
                self.register_next(me, around);
            }
        }
    }

    /// The process is gone, and with it its connections.
    pub(crate) fn killed(&mut self, me: usize, around: &mut Around) {
        self.leading = None;
        self.pump(me, around);
    }

    pub(crate) fn step(&mut self, me: usize, around: &mut Around) {
        self.refresh(me, around);
        if self.leading.is_none() {
            // Who attaches later is told the whole part.
            around.raft.touched(me);
            return;
        }
        self.turn(me, around);
        if let Some(leading) = &mut self.leading {
            let touched = around.raft.touched(me);
            // The nodes' addresses are empty, and so are those of the voters.
            let footing = Footing {
                lease_left: around.raft.lease_left(me, around.now).map(Duration::from_millis),
                group: (0..around.raft.voters).map(raft_id).collect(),
                voters: Vec::new(),
            };
            leading.tell(|read| read(&around.raft.state, &touched), || footing);
        }
        self.pump(me, around);
    }

    fn refresh(&mut self, me: usize, around: &mut Around) {
        let Some(term) = around.raft.leads(me) else {
            self.leading = None;
            self.pump(me, around);
            (self.hellos, self.is_registering, self.planned) = (VecDeque::new(), false, 0);
            return;
        };
        if self.leading.as_ref().is_none_or(|leading| leading.term() != term) {
            let previous = around.raft.previous.filter(|node| *node != me).map(name);
            self.leading = Some(Leading::new(name(me), LEASE, term, previous, around.instant()));
            (self.hellos, self.is_registering, self.planned) = (VecDeque::new(), false, 0);
            self.handovers = Handovers::default();
            around.trace.say(around.now, format_args!("node {me} leads in term {term}"));
        }
        let now = around.instant();
        self.leading.iter_mut().for_each(|leading| leading.looked(now));
    }

    fn turn(&mut self, me: usize, around: &mut Around) {
        let is_time = around.now >= self.turned_at + TURN_EVERY || around.raft.index != self.turned_index;
        let Some(leading) = self.leading.as_mut().filter(|_| is_time && self.planned == 0) else { return };
        if around.raft.lease_left(me, around.now).is_none() {
            return;
        }
        (self.turned_at, self.turned_index) = (around.now, around.raft.index);
        if let Some(previous) = leading.previous() {
            let is_there = (0..around.runs.len())
                .any(|node| name(node) == *previous && around.runs[node] && around.net.is_joined(me, node));
            leading.previous_is(is_there);
        }
        let now = around.instant();
        let members = around.raft.state.members.keys();
        let nodes: BTreeMap<_, _> = members.map(|node| (node.clone(), leading.health(node, now))).collect();
        let (unix, rates) = (around.setup.clock.unix(around.now), BTreeMap::new());
        let settings = &around.setup.plan;
        let late = self.handovers.late(&around.raft.state, settings.handover_deadline, now);
        let inputs = Inputs { now: unix, nodes: &nodes, rates: &rates, late: &late, settings };
        let mut commands = plan(&around.raft.state, &inputs);
        if around.raft.state.cluster_id.is_none() {
            let kind = InitCluster { cluster_id: "simulated".parse().expect("a name") }.into();
            commands = vec![Command { proposed_at: unix, kind }];
        }
        for command in commands.into_iter().take(COMMANDS_PER_TURN_MAX) {
            around.trace.say(around.now, format_args!("node {me} plans {:?}", command.kind));
            self.planned += usize::from(around.raft.write(me, Asker::Plan, command, around.now, &mut around.chance));
        }
    }

    fn hello(&mut self, me: usize, from: usize, link: LinkNo, hello: Hello, around: &mut Around) {
        let refuse = |down, around: &mut Around| {
            around.net.send(me, from, Mail::Down(link, down), around.now, &mut around.chance);
        };
        let has_lease = around.raft.lease_left(me, around.now).is_some();
        let Some(leading) = self.leading.as_ref().filter(|_| has_lease) else {
            return refuse(Down::NotLeader(None), around);
        };
        match leading.admit(&around.raft.state, &hello) {
            Admission::Known(generation) => self.open(from, link, &hello, generation, around),
            Admission::Refused(why) => refuse(Down::Refused(why), around),
            Admission::Register => {
                self.hellos.push_back((from, link, hello));
                self.register_next(me, around);
            }
        }
    }

    fn register_next(&mut self, me: usize, around: &mut Around) {
        if self.is_registering {
            return;
        }
        let Some((from, link, hello)) = self.hellos.front().cloned() else { return };
        let known = self.leading.as_ref().map(|leading| leading.admit(&around.raft.state, &hello));
        if let Some(Admission::Known(generation)) = known {
            self.hellos.pop_front();
            self.open(from, link, &hello, generation, around);
            return self.register_next(me, around);
        }
        let Hello { name, raft_id, address, admin_address, .. } = hello;
        let kind = RegisterMember { name, raft_id, address, admin_address }.into();
        let command = Command { proposed_at: around.setup.clock.unix(around.now), kind };
        self.is_registering = around.raft.write(me, Asker::Hello(link), command, around.now, &mut around.chance);
        if !self.is_registering {
            self.hellos.pop_front();
            let down = Mail::Down(link, Down::NotLeader(None));
            around.net.send(me, from, down, around.now, &mut around.chance);
        }
    }

    fn open(
        &mut self,
        at: usize,
        link: LinkNo,
        hello: &Hello,
        generation: sluice_coordinator::model::Generation,
        around: &mut Around,
    ) {
        let Some(leading) = &mut self.leading else { return };
        let is_in_group = at < around.raft.voters;
        let (stay, inbox) = leading.open(hello, generation, is_in_group, around.instant());
        self.guests.push(Guest { link, at, node: hello.name.clone(), stay, inbox });
    }

    /// What the leader has said goes on its way.
    fn pump(&mut self, me: usize, around: &mut Around) {
        self.guests.retain_mut(|guest| {
            loop {
                match guest.inbox.try_recv() {
                    Ok(down) => {
                        let mail = Mail::Down(guest.link, down);
                        around.net.send(me, guest.at, mail, around.now, &mut around.chance);
                    }
                    Err(TryRecvError::Empty) => return true,
                    Err(TryRecvError::Disconnected) => {
                        let mail = Mail::Closed(guest.link);
                        around.net.send(me, guest.at, mail, around.now, &mut around.chance);
                        return false;
                    }
                }
            }
        });
    }
}
