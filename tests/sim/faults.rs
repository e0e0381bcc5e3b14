//! What goes wrong, and what operators do meanwhile, drawn from the seed.

use crate::{around::Around, node::Node, operator::Operator, setup::Ms};

/// When the next fault comes, and when what was broken is mended.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    next: Ms,
    net_heals_at: Option<Ms>,
    fills_at: Option<Ms>,
    resumes_at: Option<Ms>,
}

type Fault = fn(&mut Faults, &mut [Node], &mut Operator, &mut Around);

/// Named once for each time it is as likely as one that stands here once.
const FAULTS: [(&str, Fault); 26] = [
    ("kill", kill),
    ("kill", kill),
    ("kill of several", kill_several),
    ("pause", pause),
    ("pause", pause),
    ("pause", pause),
    ("cut off", cut_off),
    ("cut off", cut_off),
    ("cannot send", cannot_send),
    ("cannot hear", cannot_hear),
    ("cut from broker", cut_from_broker),
    ("cut from broker", cut_from_broker),
    ("leader hands over", hand_over),
    ("no quorum", no_quorum),
    ("connections dropped", drop_connections),
    ("broker restart", restart_broker),
    ("Kafka outage", stop_kafka),
    ("producer dies", producer_dies),
    ("pipeline paused", pause_pipeline),
    ("resize", resize),
    ("resize", resize),
    ("resize", resize),
    ("drain", drain),
    ("move", move_shard),
    ("edit", edit),
    ("node stops", stop),
];

impl Faults {
    pub(crate) fn step(&mut self, nodes: &mut [Node], operator: &mut Operator, around: &mut Around) {
        let now = around.now;
        if self.net_heals_at.take_if(|at| *at <= now).is_some() {
            around.net.heal(&mut around.chance);
        }
        if self.fills_at.take_if(|at| *at <= now).is_some() {
            operator.drained = None;
        }
        if self.resumes_at.take_if(|at| *at <= now).is_some() {
            operator.is_paused = false;
        }
        if self.next == 0 {
            // First the cluster gets to work.
            self.next = 2_000 + around.chance.below(3_000);
        }
        if now >= self.next {
            self.next = now + around.chance.between(100, 4_000);
            let (name, fault) = FAULTS[around.chance.place(FAULTS.len())];
            around.trace.say(now, format_args!("FAULT: {name}"));
            around.coverage.count(name);
            fault(self, nodes, operator, around);
        }
    }
}

/// No more faults: everything is mended, and everybody is there again.
pub(crate) fn heal(nodes: &mut [Node], operator: &mut Operator, around: &mut Around) {
    around.net.heal(&mut around.chance);
    around.raft.no_quorum_until = 0;
    around.mqtt.heal();
    around.kafka.heal();
    for node in nodes {
        node.paused_until = 0;
        if let Some(at) = &mut node.starts_at {
            *at = around.now;
        }
    }
    (operator.drained, operator.is_paused) = (None, false);
    around.trace.say(around.now, format_args!("HEALED"));
}

fn some(nodes: &[Node], around: &mut Around) -> usize {
    around.chance.place(nodes.len())
}

/// Short, or longer than a lease, or longer than anything waits for.
fn long(around: &mut Around) -> Ms {
    match around.chance.below(4) {
        0 => around.chance.between(50, 1_000),
        1 | 2 => around.chance.between(1_500, 6_000),
        _ => around.chance.between(6_000, 14_000),
    }
}

fn kill(_: &mut Faults, nodes: &mut [Node], _: &mut Operator, around: &mut Around) {
    let (node, back) = (some(nodes, around), long(around));
    let starts_at = around.now + back;
    nodes[node].kill(starts_at, around);
}

fn kill_several(_: &mut Faults, nodes: &mut [Node], _: &mut Operator, around: &mut Around) {
    for node in nodes {
        if !around.chance.one_in(3) {
            let starts_at = around.now + long(around);
            node.kill(starts_at, around);
        }
    }
}

fn pause(_: &mut Faults, nodes: &mut [Node], _: &mut Operator, around: &mut Around) {
    let (node, time) = (some(nodes, around), long(around));
    let is_owner = nodes[node].tasks().next().is_some();
    if time > 3_000 && is_owner {
        around.coverage.count("zombies");
    }
    nodes[node].paused_until = around.now + time;
}

fn cut(faults: &mut Faults, nodes: &[Node], around: &mut Around, sends: bool, hears: bool) {
    let node = some(nodes, around);
    for other in 0..nodes.len() {
        if !sends {
            around.net.cut(node, other);
        }
        if !hears {
            around.net.cut(other, node);
        }
    }
    faults.net_heals_at = Some(around.now + long(around));
}

fn cut_off(faults: &mut Faults, nodes: &mut [Node], _: &mut Operator, around: &mut Around) {
    cut(faults, nodes, around, false, false);
}

fn cannot_send(faults: &mut Faults, nodes: &mut [Node], _: &mut Operator, around: &mut Around) {
    cut(faults, nodes, around, false, true);
}

fn cannot_hear(faults: &mut Faults, nodes: &mut [Node], _: &mut Operator, around: &mut Around) {
    cut(faults, nodes, around, true, false);
}

fn cut_from_broker(faults: &mut Faults, nodes: &mut [Node], _: &mut Operator, around: &mut Around) {
    let node = some(nodes, around);
    around.net.cut_from_broker(node);
    faults.net_heals_at = Some(around.now + around.chance.between(500, 20_000));
}

fn hand_over(_: &mut Faults, _: &mut [Node], _: &mut Operator, around: &mut Around) {
    around.raft.hand_over(around.now);
}

fn no_quorum(_: &mut Faults, _: &mut [Node], _: &mut Operator, around: &mut Around) {
    around.raft.no_quorum_until = around.now + long(around);
}

fn drop_connections(_: &mut Faults, _: &mut [Node], _: &mut Operator, around: &mut Around) {
    for _ in 0..around.chance.between(1, 4) {
        around.mqtt.drop_some_connection(&mut around.facts, &mut around.chance);
    }
}

fn restart_broker(_: &mut Faults, _: &mut [Node], _: &mut Operator, around: &mut Around) {
    let until = around.now + around.chance.between(100, 3_000);
    around.mqtt.restart(until, &mut around.facts, &mut around.chance);
}

fn stop_kafka(_: &mut Faults, _: &mut [Node], _: &mut Operator, around: &mut Around) {
    let until = around.now + long(around);
    around.kafka.go_down(until);
}

fn producer_dies(_: &mut Faults, nodes: &mut [Node], _: &mut Operator, around: &mut Around) {
    let node = some(nodes, around);
    nodes[node].producer_dies(around);
}

fn pause_pipeline(faults: &mut Faults, _: &mut [Node], operator: &mut Operator, around: &mut Around) {
    operator.is_paused = true;
    faults.resumes_at = Some(around.now + long(around));
}

fn resize(_: &mut Faults, _: &mut [Node], operator: &mut Operator, around: &mut Around) {
    operator.shards = u32::try_from(around.chance.between(1, 8)).unwrap_or(1);
}

fn drain(faults: &mut Faults, nodes: &mut [Node], operator: &mut Operator, around: &mut Around) {
    operator.drained = Some(some(nodes, around));
    faults.fills_at = Some(around.now + long(around));
}

fn move_shard(_: &mut Faults, nodes: &mut [Node], operator: &mut Operator, around: &mut Around) {
    let index = u32::try_from(around.chance.below(u64::from(operator.shards))).unwrap_or(0);
    operator.moves = Some((index, some(nodes, around)));
}

fn edit(_: &mut Faults, _: &mut [Node], operator: &mut Operator, around: &mut Around) {
    match around.chance.below(4) {
        0 => operator.deletes = Some(false),
        1 => operator.deletes = Some(true),
        2 => operator.group += 1,
        _ => operator.is_wide = !operator.is_wide,
    }
}

fn stop(_: &mut Faults, nodes: &mut [Node], operator: &mut Operator, around: &mut Around) {
    let node = some(nodes, around);
    if nodes[node].is_up() {
        operator.stops = nodes[node].owner();
        nodes[node].leaves_by = Some(around.now + 12_000);
    }
}
