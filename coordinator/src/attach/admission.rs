//! Whether a node may attach, and in which generation. PURE.

use crate::model::{ClusterId, Generation, MemberState, NodeName, RaftId, State};

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Stable across restarts.
    pub name: NodeName,
    /// Its disk's.
    pub raft_id: RaftId,
    /// `host:port` of its cluster listener, empty where it has none.
    pub address: String,
    /// `host:port` of its admin listener, likewise.
    pub admin_address: String,
    /// The generation that it was given in this life of its process.
    pub generation: Option<Generation>,
    /// Random, drawn when its process started.
    pub life: u64,
}

/// What becomes of a hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It goes on in the generation it has.
    Known(Generation),
    /// It has started: it needs a new generation.
    Register,
    /// It cannot be part of this cluster as it is.
    Refused(Rejection),
}

/// Why a node cannot be part of the cluster as it is. Trying again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It was told of another cluster than the one on its disk.
    #[error(
        "this node's disk belongs to cluster {disk}, and the nodes that it knows are of cluster {theirs}: give it the seeds of its own, or an empty data directory to join this one"
    )]
    WrongCluster {
        /// By the disk.
        disk: ClusterId,
        /// What the others say.
        theirs: ClusterId,
    },
    /// Snapshots and identity on disk are of two clusters.
    #[error("the data directory was put together from two clusters, {disk} and {state}: restore it from one backup")]
    TwoClusters {
        /// By the identity file.
        disk: ClusterId,
        /// By the state.
        state: ClusterId,
    },
    /// This disk was removed from the cluster.
    #[error("{why}")]
    Removed {
        /// What to do.
        why: String,
        /// The group needs its vote until another change of the voters is committed, so its Raft must go on and its disk be kept.
        still_votes: bool,
    },
    /// Another process has started under this node's name since.
    #[error("{0}")]
    NameTaken(String),
    /// The disk is another node's, or the cluster has lost what it knew of this one.
    #[error("{0}")]
    WrongDisk(String),
}

/// Decides on a hello. `given` is the generation that this very life of the process was given by this leader already, when the answer did
/// not arrive.
pub(crate) fn admit(state: &State, hello: &Hello, given: Option<Generation>) -> Admission {
    let member = state.members.get(&hello.name);
    if member.is_some_and(|member| member.raft_id == hello.raft_id && member.state == MemberState::Gone) {
        return Admission::Refused(removed(&hello.name, true));
    }
    let (Some(has), Some(member)) = (hello.generation.or(given), member) else {
        return match hello.generation {
            // The log ends before it was given its generation: restored from a backup, or recovered by force.
            Some(_) => Admission::Refused(forgotten(&hello.name)),
            None => Admission::Register,
        };
    };
    if member.raft_id == hello.raft_id && member.generation == has {
        Admission::Known(has)
    } else if member.generation > has || member.raft_id != hello.raft_id {
        Admission::Refused(Rejection::NameTaken(format!(
            "another process has started as node {}: give each node a name of its own",
            hello.name
        )))
    } else {
        Admission::Refused(forgotten(&hello.name))
    }
}

/// Of a disk that was removed.
pub(crate) fn removed(name: &NodeName, still_votes: bool) -> Rejection {
    let why =
        format!("node {name} was removed from the cluster: start it with an empty data directory to add it again");
    Rejection::Removed { why, still_votes }
}

fn forgotten(name: &NodeName) -> Rejection {
    Rejection::WrongDisk(format!("the cluster no longer knows this start of node {name}: restart the node"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{
        machine::{self, Command, RegisterMember},
        model::UnixMs,
    };

    fn hello(raft_id: u64, generation: Option<u64>) -> Hello {
        let (address, admin_address) = (String::new(), String::new());
        let generation = generation.map(Generation);
        Hello { name: "n1".parse().unwrap(), raft_id: RaftId(raft_id), address, admin_address, generation, life: 1 }
    }

    fn registered(times: usize) -> State {
        let mut state = State::default();
        for _ in 0..times {
            let Hello { name, raft_id, address, admin_address, .. } = hello(7, None);
            let kind = RegisterMember { name, raft_id, address, admin_address }.into();
            machine::apply(&mut state, Command { proposed_at: UnixMs(1), kind });
        }
        state
    }

    fn is_refused(admission: &Admission, want: impl Fn(&Rejection) -> bool) -> bool {
        matches!(admission, Admission::Refused(why) if want(why))
    }

    #[test]
    fn a_start_registers_and_a_return_does_not() {
        assert_eq!(admit(&State::default(), &hello(7, None), None), Admission::Register);
        let state = registered(2);
        assert_eq!(admit(&state, &hello(7, None), None), Admission::Register);
        assert_eq!(admit(&state, &hello(7, Some(2)), None), Admission::Known(Generation(2)));
        // The same life, whose welcome was lost on the way.
        assert_eq!(admit(&state, &hello(7, None), Some(Generation(2))), Admission::Known(Generation(2)));
    }

    #[test]
    fn an_older_start_learns_that_its_name_is_taken() {
        let taken = |why: &Rejection| matches!(why, Rejection::NameTaken(_));
        assert!(is_refused(&admit(&registered(2), &hello(7, Some(1)), None), taken));
        assert!(is_refused(&admit(&registered(2), &hello(8, Some(2)), None), taken));
    }

    #[test]
    fn a_generation_that_the_log_does_not_know_cannot_go_on() {
        let forgotten = |why: &Rejection| matches!(why, Rejection::WrongDisk(_));
        assert!(is_refused(&admit(&registered(2), &hello(7, Some(3)), None), forgotten));
        assert!(is_refused(&admit(&State::default(), &hello(7, Some(1)), None), forgotten));
    }

    #[test]
    fn a_removed_disk_stays_away() {
        let mut state = registered(1);
        state.members.values_mut().for_each(|member| member.state = MemberState::Gone);
        let removed = |why: &Rejection| matches!(why, Rejection::Removed { .. });
        assert!(is_refused(&admit(&state, &hello(7, Some(1)), None), removed));
        assert!(is_refused(&admit(&state, &hello(7, None), None), removed));
        assert_eq!(admit(&state, &hello(8, None), None), Admission::Register);
    }
}
