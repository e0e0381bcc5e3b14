//! Whether a node that is in no cluster joins one, founds one, or waits. PURE.
//!
//! A second cluster under the same seeds would be two owners for every session, so a cluster is founded on positive answers only:
//! silence may be a cluster that is down or slow, and means wait. One silent seed is enough, however many others have answered: those may
//! be the nodes that were added since. So seeds name nodes that are there when a cluster is founded; who comes later needs to be in no
//! list. A name that stands for several addresses stands for those that it has now, each of which must answer.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ClusterId, NodeName, RaftId};

/// What this node is and was told.
#[derive(Debug, Clone)]
pub(crate) struct Me {
    pub(crate) name: NodeName,
    pub(crate) raft_id: RaftId,
    pub(crate) may_found: bool,
    /// How many nodes, this one among them, must be there before a cluster is founded.
    pub(crate) expect: usize,
    /// An operator has said to wait for nobody.
    pub(crate) is_forced: bool,
    pub(crate) cluster_name: String,
}

/// What another node answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) name: NodeName,
    pub(crate) raft_id: RaftId,
    /// None: it is in none.
    pub(crate) cluster_id: Option<ClusterId>,
    /// It never was in any.
    pub(crate) is_pristine: bool,
    pub(crate) may_found: bool,
    /// Empty: it does not say.
    pub(crate) cluster_name: String,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Be part of this cluster.
    Join(ClusterId),
    /// Nobody has one, and everybody said so.
    Found,
    /// Ask again; why.
    Wait(String),
}

/// Decides on the answers to one round of questions; `silent` addresses gave none.
pub(crate) fn decide(me: &Me, answers: &[Answer], silent: &[String]) -> Decision {
    let others: BTreeMap<RaftId, &Answer> =
        answers.iter().filter(|answer| answer.raft_id != me.raft_id).map(|answer| (answer.raft_id, answer)).collect();
    // Client ids would differ from node to node, and with each move sessions would be left behind.
    let is_named = |answer: &&&Answer| !answer.cluster_name.is_empty() && answer.cluster_name != me.cluster_name;
    if let Some(other) = others.values().find(is_named) {
        return Decision::Wait(format!(
            "node {} is of cluster {:?} by name, and this one of {:?}: set the same `cluster` on all nodes",
            other.name, other.cluster_name, me.cluster_name
        ));
    }
    let clusters: BTreeSet<&ClusterId> = others.values().filter_map(|answer| answer.cluster_id.as_ref()).collect();
    match clusters.iter().collect::<Vec<_>>()[..] {
        [] => {}
        [cluster] => return Decision::Join((*cluster).clone()),
        [one, other, ..] => {
            return Decision::Wait(format!(
                "the seeds are nodes of different clusters, {one} and {other}: give seeds of one"
            ));
        }
    }
    // One whose disk has been written to is founding a cluster at this moment: it will say so in the next round.
    if let Some(other) = others.values().find(|answer| !answer.is_pristine) {
        return Decision::Wait(format!(
            "node {} is in no cluster, and may be founding one or has heard of one, which it waits for",
            other.name
        ));
    }
    if me.is_forced {
        return Decision::Found;
    }
    if !me.may_found {
        return Decision::Wait(format!("no node that answers is in a cluster yet{}", quiet(silent)));
    }
    // Two that may found, started at once, must not both do so.
    if let Some(first) = others.values().find(|a| a.may_found && (&a.name, a.raft_id) < (&me.name, me.raft_id)) {
        return Decision::Wait(format!("node {} may found the cluster too, and comes first", first.name));
    }
    let missing = me.expect.saturating_sub(1 + others.len());
    if missing > 0 {
        return Decision::Wait(format!(
            "{missing} more of {} nodes must say that they are in no cluster before one is founded{}; \
             if they are lost for good, `sluice cluster bootstrap --force --yes` founds one without them",
            me.expect,
            quiet(silent)
        ));
    }
    if !silent.is_empty() {
        return Decision::Wait(format!(
            "every seed must say that it is in no cluster before one is founded{}, where one may be that is down; \
             start what is silent, take it out of `seeds` if it was never there, or, if it is lost for good, \
             found a cluster without it by `sluice cluster bootstrap --force --yes`",
            quiet(silent)
        ));
    }
    Decision::Found
}

fn quiet(silent: &[String]) -> String {
    if silent.is_empty() { String::new() } else { format!(", and no answer comes from {}", silent.join(", ")) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn me(expect: usize) -> Me {
        Me {
            name: "n-1".parse().unwrap(),
            raft_id: RaftId(1),
            may_found: true,
            expect,
            is_forced: false,
            cluster_name: "sluice".to_owned(),
        }
    }

    fn answer(name: &str, raft_id: u64) -> Answer {
        let (name, raft_id) = (name.parse().unwrap(), RaftId(raft_id));
        Answer {
            name,
            raft_id,
            cluster_id: None,
            is_pristine: true,
            may_found: false,
            cluster_name: "sluice".to_owned(),
        }
    }

    fn in_cluster(answer: Answer, cluster: &str) -> Answer {
        Answer { cluster_id: Some(cluster.parse().unwrap()), is_pristine: false, ..answer }
    }

    #[test]
    fn a_lone_node_that_expects_nobody_founds_at_once() {
        assert_eq!(decide(&me(1), &[], &[]), Decision::Found);
    }

    #[test]
    fn silence_means_wait() {
        let silent = ["n-2:7073".to_owned()];
        let Decision::Wait(why) = decide(&me(3), &[answer("n-3", 3)], &silent) else { panic!() };
        assert!(why.contains("1 more of 3") && why.contains("n-2:7073"), "{why}");
        assert_eq!(decide(&me(3), &[answer("n-3", 3), answer("n-2", 2)], &[]), Decision::Found);
    }

    #[test]
    fn enough_answers_do_not_outweigh_a_silence() {
        // Three became five; the first disk is lost while the other two of the cluster are down.
        let (answers, silent) = ([answer("n-3", 3), answer("n-4", 4)], ["n-2:7073".to_owned()]);
        let Decision::Wait(why) = decide(&me(3), &answers, &silent) else { panic!() };
        assert!(why.contains("n-2:7073") && why.contains("--force"), "{why}");
        assert!(matches!(decide(&me(1), &[], &silent), Decision::Wait(_)));
        assert_eq!(decide(&Me { is_forced: true, ..me(3) }, &answers, &silent), Decision::Found);
        // Of two that may found, the first may be silent for a round.
        let second = Answer { may_found: true, ..answer("n-2", 0) };
        assert!(matches!(decide(&me(2), &[second], &["n-0:7073".to_owned()]), Decision::Wait(_)));
    }

    #[test]
    fn one_node_under_two_addresses_and_this_node_itself_count_once() {
        let answers = [answer("n-1", 1), answer("n-2", 2), answer("n-2", 2)];
        assert!(matches!(decide(&me(3), &answers, &[]), Decision::Wait(_)));
    }

    #[test]
    fn who_has_been_in_a_cluster_is_no_witness_that_there_is_none() {
        let was = Answer { is_pristine: false, ..answer("n-2", 2) };
        assert!(matches!(decide(&me(2), std::slice::from_ref(&was), &[]), Decision::Wait(_)));
        // Others that were there in time do not make up for it: it is founding a cluster.
        assert!(matches!(decide(&me(2), &[was.clone(), answer("n-3", 3)], &[]), Decision::Wait(_)));
        assert!(matches!(decide(&Me { is_forced: true, ..me(2) }, &[was], &[]), Decision::Wait(_)));
    }

    #[test]
    fn a_cluster_that_answers_is_joined_whatever_was_said() {
        let answers = [answer("n-3", 3), in_cluster(answer("n-2", 2), "c1")];
        let joined = Decision::Join("c1".parse().unwrap());
        assert_eq!(decide(&me(2), &answers, &[]), joined);
        assert_eq!(decide(&Me { is_forced: true, ..me(2) }, &answers, &[]), joined);
        let two = [in_cluster(answer("n-3", 3), "c2"), in_cluster(answer("n-2", 2), "c1")];
        assert!(matches!(decide(&me(2), &two, &[]), Decision::Wait(_)));
    }

    #[test]
    fn a_cluster_by_another_name_is_neither_joined_nor_founded_with() {
        let other = Answer { cluster_name: "plant".to_owned(), ..answer("n-2", 2) };
        for other in [other.clone(), in_cluster(other, "c1")] {
            let Decision::Wait(why) = decide(&me(2), std::slice::from_ref(&other), &[]) else { panic!() };
            assert!(why.contains("\"plant\"") && why.contains("\"sluice\""), "{why}");
        }
        let unsaid = Answer { cluster_name: String::new(), ..answer("n-2", 2) };
        assert_eq!(decide(&me(2), &[unsaid], &[]), Decision::Found);
    }

    #[test]
    fn only_who_may_founds_and_of_two_only_the_first() {
        let others = [answer("n-2", 2), answer("n-3", 3)];
        assert!(matches!(decide(&Me { may_found: false, ..me(3) }, &others, &[]), Decision::Wait(_)));
        let first = Answer { may_found: true, ..answer("n-0", 9) };
        assert!(matches!(decide(&me(2), &[first], &[]), Decision::Wait(_)));
        let second = Answer { may_found: true, ..answer("n-2", 0) };
        assert_eq!(decide(&me(2), &[second], &[]), Decision::Found);
    }

    #[test]
    fn force_waits_for_nobody() {
        let silent = ["n-2:7073".to_owned()];
        assert_eq!(decide(&Me { is_forced: true, may_found: false, ..me(3) }, &[], &silent), Decision::Found);
    }
}
