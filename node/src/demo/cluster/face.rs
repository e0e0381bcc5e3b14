//! What one moment of the cluster looks like: what the nodes say, and what is seen of their processes and the flow. Pure.

use sluice_proto::admin::v1::{Assignment, RaftRole, TaskState};

use super::{observer::Answer, process::Condition};
use crate::registry::State;

/// One moment.
#[derive(Debug, Clone, Default)]
pub(in crate::demo) struct Face {
    /// In the order of their names.
    pub(in crate::demo) nodes: Vec<Node>,
    /// In the order of their indexes.
    pub(in crate::demo) shards: Vec<Shard>,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::demo) struct Node {
    pub(in crate::demo) name: String,
    pub(in crate::demo) state: NodeState,
    /// Shards that are assigned to it.
    pub(in crate::demo) shards: usize,
    /// On their way from it and to it.
    pub(in crate::demo) leaving: usize,
    pub(in crate::demo) coming: usize,
    /// Readings a second of its shards.
    pub(in crate::demo) rate: u64,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::demo) enum NodeState {
    /// Leads the cluster.
    Leader,
    /// Is alive, says the leader.
    Follower,
    /// Runs, and the leader does not hear it yet.
    Joining,
    /// Stops in order, to start again.
    Stopping,
    /// Its process is gone.
    Dead,
}

/// A shard.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::demo) struct Shard {
    pub(in crate::demo) name: String,
    /// Number of its owner; none: nobody.
    pub(in crate::demo) node: Option<usize>,
    /// Number of the node that it is on its way to.
    pub(in crate::demo) to: Option<usize>,
    pub(in crate::demo) epoch: u64,
    pub(in crate::demo) state: ShardState,
    /// Readings a second.
    pub(in crate::demo) rate: u64,
    pub(in crate::demo) message: String,
}

/// What a shard does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::demo) enum ShardState {
    /// Its owner is dead, or there is none: its readings wait in the MQTT broker.
    Waiting,
    /// Its owner has not told yet.
    Starting,
    /// As its owner says in its last checkpoint.
    Task(State),
}

impl NodeState {
    /// The word.
    pub(in crate::demo) fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Joining => "joining",
            Self::Stopping => "stopping",
            Self::Dead => "dead",
        }
    }
}

impl Face {
    /// Puts together what `answer` says with what is seen: the processes, by name, and the rates, by shard.
    pub(super) fn of(answer: &Answer, processes: &[(&str, Condition)], rates: &[u64]) -> Self {
        let number = |name: &str| processes.iter().position(|(known, _)| *known == name);
        let is_dead = |node: usize| processes[node].1 == Condition::Dead;
        let shard = |assignment: &Assignment| {
            let (node, index) = (number(&assignment.node), assignment.index as usize);
            let state = match node {
                None => ShardState::Waiting,
                Some(node) if is_dead(node) => ShardState::Waiting,
                Some(_) => task(assignment.state()).map_or(ShardState::Starting, ShardState::Task),
            };
            Shard {
                name: format!("{}/{index}", assignment.pipeline),
                node,
                to: number(&assignment.handover_to),
                epoch: assignment.epoch,
                state,
                rate: rates.get(index).copied().unwrap_or_default(),
                message: assignment.message.clone(),
            }
        };
        let shards: Vec<_> = answer.assignments.iter().map(shard).collect();
        let nodes = processes.iter().enumerate().map(|(index, (name, condition))| {
            let own = || shards.iter().filter(|shard| shard.node == Some(index));
            Node {
                name: (*name).to_owned(),
                state: node_state(answer, name, *condition),
                shards: own().count(),
                leaving: own().filter(|shard| shard.to.is_some()).count(),
                coming: shards.iter().filter(|shard| shard.to == Some(index)).count(),
                rate: own().map(|shard| shard.rate).sum(),
            }
        });
        Self { nodes: nodes.collect(), shards }
    }

    /// The number of the node that leads and lives.
    pub(super) fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.state == NodeState::Leader)
    }

    /// The numbers of the shards that a node has.
    pub(super) fn shards_of(&self, node: usize) -> Vec<usize> {
        (0..self.shards.len()).filter(|shard| self.shards[*shard].node == Some(node)).collect()
    }
}

fn node_state(answer: &Answer, name: &str, condition: Condition) -> NodeState {
    match condition {
        Condition::Dead => return NodeState::Dead,
        Condition::Stopping => return NodeState::Stopping,
        Condition::Running => {}
    }
    match answer.nodes.iter().find(|node| node.name == name) {
        Some(node) if node.role() == RaftRole::Leader => NodeState::Leader,
        // Without a leader nobody can tell; what runs goes on.
        Some(node) if node.is_alive.unwrap_or(true) => NodeState::Follower,
        _ => NodeState::Joining,
    }
}

fn task(state: TaskState) -> Option<State> {
    match state {
        TaskState::Unspecified => None,
        TaskState::Connecting => Some(State::Connecting),
        TaskState::Running => Some(State::Running),
        TaskState::BackPressure => Some(State::BackPressure),
        TaskState::Draining => Some(State::Draining),
        TaskState::Stopped => Some(State::Stopped),
        TaskState::Failed => Some(State::Failed),
        TaskState::Retired => Some(State::Retired),
    }
}

#[cfg(test)]
mod tests {
    use sluice_proto::admin::v1 as admin;

    use super::*;

    #[test]
    fn a_dead_process_counts_more_than_what_is_still_said_of_it() {
        let node = |name: &str, role: RaftRole| admin::Node {
            name: name.to_owned(),
            role: role.into(),
            is_alive: Some(true),
            ..admin::Node::default()
        };
        let assignment = |index, node: &str, to: &str| Assignment {
            pipeline: "demo".to_owned(),
            index,
            node: node.to_owned(),
            handover_to: to.to_owned(),
            epoch: 3,
            state: TaskState::Running.into(),
            ..Assignment::default()
        };
        let answer = Answer {
            nodes: vec![node("sluice-0", RaftRole::Leader), node("sluice-1", RaftRole::Voter)],
            assignments: vec![
                assignment(0, "sluice-0", ""),
                assignment(1, "sluice-1", "sluice-2"),
                assignment(2, "sluice-1", ""),
            ],
        };
        let processes =
            [("sluice-0", Condition::Dead), ("sluice-1", Condition::Running), ("sluice-2", Condition::Running)];
        let face = Face::of(&answer, &processes, &[0, 300, 400]);
        let states: Vec<_> = face.nodes.iter().map(|node| node.state).collect();
        assert_eq!(states, [NodeState::Dead, NodeState::Follower, NodeState::Joining]);
        assert_eq!(face.leader(), None);
        assert_eq!(face.shards[0].state, ShardState::Waiting);
        assert_eq!(face.shards[2].state, ShardState::Task(State::Running));
        let busy = Node {
            name: "sluice-1".to_owned(),
            state: NodeState::Follower,
            shards: 2,
            leaving: 1,
            coming: 0,
            rate: 700,
        };
        assert_eq!((&face.nodes[1], face.nodes[2].coming), (&busy, 1));
        assert_eq!(face.shards_of(1), [1, 2]);
    }
}
