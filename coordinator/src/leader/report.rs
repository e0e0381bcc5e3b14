//! What only the leader knows of the cluster: who is alive, and how far everybody's log is.

use std::{collections::BTreeMap, time::Duration};

use sluice_proto::cluster::v1 as pb;

use crate::{
    model::{Generation, Member, MemberState, NodeName, RaftId, State},
    plan::Health,
    raft::Roles,
    wire::node::millis,
};

/// See the file's head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) last_log: u64,
    /// Members of the state.
    pub(crate) nodes: BTreeMap<NodeName, NodeReport>,
    /// Members of the Raft group.
    pub(crate) peers: BTreeMap<RaftId, PeerReport>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeReport {
    pub(crate) is_alive: bool,
    pub(crate) stable_for: Duration,
    pub(crate) generation: Generation,
    pub(crate) address: String,
    pub(crate) is_active: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerReport {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) is_voter: bool,
    pub(crate) matched: Option<u64>,
    pub(crate) last_contact: Option<Duration>,
}

impl Report {
    /// Of the leader, `me`.
    pub(crate) fn new(state: &State, health: BTreeMap<NodeName, Health>, roles: &Roles, me: RaftId) -> Self {
        let node = |(name, health): (NodeName, Health)| {
            let Health { is_alive, stable_for } = health;
            let member = state.members.get(&name).filter(|member| member.state != MemberState::Gone)?;
            let Member { generation, ref address, state, .. } = *member;
            let (address, is_active) = (address.clone(), state == MemberState::Active);
            Some((name, NodeReport { is_alive, stable_for, generation, address, is_active }))
        };
        let peer = |(id, node): (&RaftId, &crate::raft::RaftNode)| {
            let is_me = *id == me;
            let report = PeerReport {
                name: node.name.clone(),
                address: node.address.clone(),
                is_voter: roles.voters.contains(id),
                matched: if is_me { Some(roles.last_log) } else { roles.matched.get(id).copied() },
                last_contact: if is_me { Some(Duration::ZERO) } else { roles.last_contact.get(id).copied() },
            };
            (*id, report)
        };
        Self {
            last_log: roles.last_log,
            nodes: health.into_iter().filter_map(node).collect(),
            peers: roles.nodes.iter().map(peer).collect(),
        }
    }

    /// How many more voters may be lost; only those count that were heard within `recent`.
    pub(crate) fn failure_tolerance(&self, recent: Duration) -> usize {
        let voters = self.peers.values().filter(|peer| peer.is_voter);
        let heard = voters.clone().filter(|peer| peer.last_contact.is_some_and(|ago| ago <= recent)).count();
        heard.saturating_sub(voters.count() / 2 + 1)
    }
}

impl From<&Report> for pb::LeaderReport {
    fn from(report: &Report) -> Self {
        let node = |(name, node): (&NodeName, &NodeReport)| pb::NodeReport {
            name: name.to_string(),
            is_alive: node.is_alive,
            stable_for_ms: millis(node.stable_for),
            generation: node.generation.0,
            address: node.address.clone(),
            is_active: Some(node.is_active),
        };
        let peer = |(id, peer): (&RaftId, &PeerReport)| pb::PeerReport {
            raft_id: id.0,
            name: peer.name.clone(),
            address: peer.address.clone(),
            is_voter: peer.is_voter,
            matched: peer.matched,
            last_contact_ms: peer.last_contact.map(millis),
        };
        Self {
            last_log: report.last_log,
            nodes: report.nodes.iter().map(node).collect(),
            peers: report.peers.iter().map(peer).collect(),
        }
    }
}

impl From<pb::LeaderReport> for Report {
    fn from(report: pb::LeaderReport) -> Self {
        let node = |node: pb::NodeReport| {
            let (stable_for, generation) = (Duration::from_millis(node.stable_for_ms), Generation(node.generation));
            let (is_alive, address) = (node.is_alive, node.address);
            // One that only might take shards is worth a try.
            let is_active = node.is_active.unwrap_or(true);
            Some((node.name.parse().ok()?, NodeReport { is_alive, stable_for, generation, address, is_active }))
        };
        let peer = |peer: pb::PeerReport| {
            let (last_contact, matched) = (peer.last_contact_ms.map(Duration::from_millis), peer.matched);
            let (name, address, is_voter) = (peer.name, peer.address, peer.is_voter);
            (RaftId(peer.raft_id), PeerReport { name, address, is_voter, matched, last_contact })
        };
        Self {
            last_log: report.last_log,
            // A name that is none is a newer version's business, and this is for people to look at.
            nodes: report.nodes.into_iter().filter_map(node).collect(),
            peers: report.peers.into_iter().map(peer).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_voters_that_are_heard_can_be_spared() {
        let voter = |ago: Option<u64>| PeerReport {
            name: String::new(),
            address: String::new(),
            is_voter: true,
            matched: None,
            last_contact: ago.map(Duration::from_secs),
        };
        let tolerance = |voters: &[Option<u64>]| {
            let peers = voters.iter().enumerate().map(|(id, ago)| (RaftId(id as u64), voter(*ago))).collect();
            Report { peers, ..Report::default() }.failure_tolerance(Duration::from_secs(1))
        };
        assert_eq!(tolerance(&[Some(0)]), 0);
        assert_eq!(tolerance(&[Some(0), Some(0), Some(1)]), 1);
        assert_eq!(tolerance(&[Some(0), Some(0), None]), 0);
        assert_eq!(tolerance(&[Some(0), Some(9), None]), 0);
        assert_eq!(tolerance(&[Some(0), Some(0), Some(0), Some(9), Some(0)]), 1);
    }
}
