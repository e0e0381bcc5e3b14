//! What happens in the cluster, told in sentences: who leads, which shards move, how long those of a killed node stood still. Pure.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::face::{Face, NodeState};
use crate::demo::flows::Flows;

/// A node that was killed, in the result of a demo. Field names are part of the interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Killed {
    /// Its name.
    pub node: String,
    /// Shards that it had.
    pub shards: usize,
    /// The longest time in which the MQTT broker got no ack from one of them: from the last of the killed node to the first of the
    /// next owner. Null: one has not had any since.
    pub gap_ms: Option<u64>,
}

impl Killed {
    /// The gap in words.
    pub(in crate::demo) fn gap(&self) -> String {
        self.gap_ms.map_or_else(|| "no end seen".to_owned(), |ms| ms.to_string())
    }
}

/// What has been told so far, and what is to be told yet.
#[derive(Debug, Default)]
pub(super) struct Story {
    kills: Vec<Kill>,
    leader: Option<usize>,
    /// By shard: the owner that was told last.
    owners: BTreeMap<usize, usize>,
}

#[derive(Debug)]
struct Kill {
    killed: Killed,
    /// Its shards at that time.
    shards: Vec<Left>,
    is_over: bool,
}

/// A shard that a killed node left.
#[derive(Debug)]
struct Left {
    shard: usize,
    epoch: u64,
    /// Connections that its session had had.
    connections: u64,
}

impl Story {
    /// A node was killed; `face` is of just before.
    pub(super) fn killed(&mut self, node: usize, face: &Face, flows: &Flows) -> String {
        let left = face.shards_of(node).into_iter().map(|shard| Left {
            shard,
            epoch: face.shards[shard].epoch,
            connections: flows.of(shard).connections,
        });
        let shards: Vec<_> = left.collect();
        let name = &face.nodes[node].name;
        let sentence = match shards.len() {
            0 => format!("{name} killed; it had no shards"),
            count => format!("{name} killed with its {}", shards_word(count)),
        };
        let killed = Killed { node: name.clone(), shards: shards.len(), gap_ms: None };
        let is_over = shards.is_empty();
        self.kills.push(Kill { killed, shards, is_over });
        sentence
    }

    /// What is new.
    pub(super) fn go_on(&mut self, face: &Face, flows: &Flows) -> Vec<String> {
        let mut news = Vec::new();
        news.extend(self.leads(face));
        news.extend(self.flow_again(face, flows));
        news.extend(self.moved(face));
        news
    }

    /// All nodes that were killed, in that order.
    pub(super) fn kills(&self) -> Vec<Killed> {
        self.kills.iter().map(|kill| kill.killed.clone()).collect()
    }

    fn leads(&mut self, face: &Face) -> Option<String> {
        let leader = face.leader().filter(|leader| self.leader != Some(*leader))?;
        self.leader = Some(leader);
        Some(format!("{} leads", face.nodes[leader].name))
    }

    fn flow_again(&mut self, face: &Face, flows: &Flows) -> Vec<String> {
        let mut news = Vec::new();
        for kill in self.kills.iter_mut().filter(|kill| !kill.is_over) {
            let gaps: Option<Vec<_>> = kill.shards.iter().map(|left| left.gap(face, flows)).collect();
            let Some(longest) = gaps.and_then(|gaps| gaps.into_iter().max()) else { continue };
            kill.is_over = true;
            kill.killed.gap_ms = Some(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
            let mut names: Vec<_> = kill.shards.iter().filter_map(|left| face.owner(left.shard)).collect();
            names.sort_unstable();
            names.dedup();
            news.push(format!(
                "{}'s {} {} again on {} after {:.1} s",
                kill.killed.node,
                shards_word(kill.shards.len()),
                if kill.shards.len() == 1 { "flows" } else { "flow" },
                names.join(", "),
                longest.as_secs_f64()
            ));
        }
        news
    }

    /// Shards that have gone from one living node to another; what a dead one leaves is told when it flows again.
    fn moved(&mut self, face: &Face) -> Vec<String> {
        let mut moves: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
        for (index, shard) in face.shards.iter().enumerate() {
            let Some(node) = shard.node else { continue };
            let Some(before) = self.owners.insert(index, node).filter(|before| *before != node) else { continue };
            if face.nodes[before].state != NodeState::Dead {
                moves.entry((before, node)).or_default().push(&shard.name);
            }
        }
        let name = |node: usize| &face.nodes[node].name;
        moves
            .into_iter()
            .map(|((from, to), shards)| format!("{} moved from {} to {}", shards.join(", "), name(from), name(to)))
            .collect()
    }
}

impl Left {
    /// How long it stood still; none: it still does, or its new owner is not known yet.
    fn gap(&self, face: &Face, flows: &Flows) -> Option<Duration> {
        let is_reassigned = face.shards.get(self.shard)?.epoch > self.epoch;
        let resumed = flows.of(self.shard).resumed.filter(|resumed| resumed.connection > self.connections)?;
        is_reassigned.then_some(resumed.gap)
    }
}

impl Face {
    fn owner(&self, shard: usize) -> Option<&str> {
        let node = self.shards.get(shard)?.node?;
        Some(self.nodes.get(node)?.name.as_str())
    }
}

fn shards_word(count: usize) -> String {
    if count == 1 { "shard".to_owned() } else { format!("{count} shards") }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        demo::cluster::face::{Node, Shard, ShardState},
        registry::State,
    };

    fn face(leader: usize, dead: Option<usize>, owners: &[(usize, u64)]) -> Face {
        let node = |index| Node {
            name: format!("sluice-{index}"),
            state: match index {
                _ if dead == Some(index) => NodeState::Dead,
                _ if leader == index => NodeState::Leader,
                _ => NodeState::Follower,
            },
            shards: 0,
            leaving: 0,
            coming: 0,
            rate: 0,
        };
        let shard = |(index, (node, epoch)): (usize, &(usize, u64))| Shard {
            name: format!("demo/{index}"),
            node: Some(*node),
            to: None,
            epoch: *epoch,
            state: ShardState::Task(State::Running),
            rate: 0,
            message: String::new(),
        };
        Face { nodes: (0..3).map(node).collect(), shards: owners.iter().enumerate().map(shard).collect() }
    }

    #[test]
    fn a_kill_is_over_when_every_shard_is_acked_by_its_next_owner() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (mut story, mut flows) = (Story::default(), Flows::new(3));
        for shard in 0..3 {
            flows.connected(shard);
            flows.acked(shard, at(100));
        }
        let before = face(0, None, &[(0, 1), (0, 1), (1, 1)]);
        assert_eq!(story.go_on(&before, &flows), ["sluice-0 leads"]);
        assert_eq!(story.killed(0, &before, &flows), "sluice-0 killed with its 2 shards");
        let after = face(2, Some(0), &[(1, 2), (2, 2), (1, 1)]);
        flows.connected(0);
        flows.acked(0, at(1_100));
        assert_eq!(story.go_on(&after, &flows), ["sluice-2 leads"], "one of two flows");
        flows.connected(1);
        flows.acked(1, at(1_400));
        let told = story.go_on(&after, &flows);
        assert_eq!(told, ["sluice-0's 2 shards flow again on sluice-1, sluice-2 after 1.3 s"]);
        assert_eq!(story.kills(), [Killed { node: "sluice-0".to_owned(), shards: 2, gap_ms: Some(1_300) }]);
        assert!(story.go_on(&after, &flows).is_empty(), "told once");
    }

    #[test]
    fn planned_moves_are_told_by_where_they_go() {
        let (mut story, flows) = (Story::default(), Flows::new(3));
        story.go_on(&face(0, None, &[(1, 1), (1, 1), (2, 1)]), &flows);
        let told = story.go_on(&face(0, None, &[(0, 2), (0, 2), (2, 1)]), &flows);
        assert_eq!(told, ["demo/0, demo/1 moved from sluice-1 to sluice-0"]);
    }
}
