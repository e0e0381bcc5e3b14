//! The autopilot on small clusters whose steps all succeed, told as the steps it takes; and on random ones, what must never be.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};

use super::{EndChange, Health, Step, VoterInputs, VoterSettings, end_change, next_step};
use crate::model::{Generation, Member, MemberState, NodeName, RaftId, State};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

struct World {
    state: State,
    voters: BTreeSet<RaftId>,
    learners: BTreeSet<RaftId>,
    leader: RaftId,
    lagging: BTreeSet<RaftId>,
    health: BTreeMap<NodeName, Health>,
    /// Beside those that are up.
    reached: BTreeSet<RaftId>,
    absent_for: BTreeMap<NodeName, Duration>,
    settings: VoterSettings,
}

impl World {
    /// A cluster that has been founded by node 0 and joined by the others, and has come to rest. The node of ordinal `n` has
    /// Raft id `n`.
    fn of(nodes: u64, voters_max: usize) -> Self {
        let mut world = Self {
            state: State::default(),
            voters: [RaftId(0)].into(),
            learners: BTreeSet::new(),
            leader: RaftId(0),
            lagging: BTreeSet::new(),
            health: BTreeMap::new(),
            reached: BTreeSet::new(),
            absent_for: BTreeMap::new(),
            settings: VoterSettings { voters_max, ..VoterSettings::default() },
        };
        for ordinal in 0..nodes {
            world.join(ordinal, ordinal);
        }
        world.rest();
        world
    }

    fn join(&mut self, ordinal: u64, raft_id: u64) {
        let member = Member {
            raft_id: RaftId(raft_id),
            generation: Generation(1),
            address: String::new(),
            admin_address: String::new(),
            state: MemberState::Active,
            was_draining: false,
        };
        self.state.members.insert(node(ordinal), member);
        self.up(ordinal, MINUTE);
    }

    fn up(&mut self, ordinal: u64, stable_for: Duration) {
        self.health.insert(node(ordinal), Health { is_alive: true, stable_for });
        self.absent_for.remove(&node(ordinal));
    }

    fn raft_id(&self, ordinal: u64) -> Option<RaftId> {
        self.state.members.get(&node(ordinal)).map(|member| member.raft_id)
    }

    fn down(&mut self, ordinal: u64, absent_for: Duration) {
        self.health.remove(&node(ordinal));
        self.absent_for.insert(node(ordinal), absent_for);
    }

    fn set(&mut self, ordinal: u64, state: MemberState) {
        if let Some(member) = self.state.members.get_mut(&node(ordinal)) {
            member.state = state;
        }
    }

    fn next(&self) -> Option<Step> {
        self.look(next_step)
    }

    fn look<T>(&self, look: impl FnOnce(&VoterInputs<'_>) -> T) -> T {
        let peers = self.voters.union(&self.learners);
        let up = self.state.members.iter().filter(|(name, _)| self.health.contains_key(*name));
        let reached = up.map(|(_, member)| member.raft_id).chain(self.reached.iter().copied()).collect();
        let matched = peers.map(|id| (*id, if self.lagging.contains(id) { 10 } else { 950 })).collect();
        look(&VoterInputs {
            state: &self.state,
            voters: &self.voters,
            learners: &self.learners,
            leader: self.leader,
            last_log: 1_000,
            matched: &matched,
            health: &self.health,
            reached: &reached,
            absent_for: &self.absent_for,
            settings: &self.settings,
        })
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::AddLearner(id) => assert!(!self.voters.contains(&id) && self.learners.insert(id), "{step:?}"),
            Step::Promote(id) => assert!(self.learners.remove(&id) && self.voters.insert(id), "{step:?}"),
            Step::Replace { old, new } => {
                assert!(self.voters.remove(&old) && self.learners.remove(&new), "{step:?}");
                self.voters.insert(new);
                self.learners.insert(old);
            }
            Step::Demote(id) => assert!(self.voters.remove(&id) && self.learners.insert(id), "{step:?}"),
            Step::Forget(id) => assert!(self.learners.remove(&id), "{step:?}"),
            Step::TransferLeader(id) => {
                assert!(self.voters.contains(&id) && self.leader != id, "{step:?}");
                self.leader = id;
            }
        }
        assert!(self.voters.contains(&self.leader), "{step:?}");
    }

    /// Takes steps until there are none. What they were.
    fn rest(&mut self) -> Vec<String> {
        let mut steps = Vec::new();
        while let Some(step) = self.next() {
            self.take(step);
            steps.push(match step {
                Step::Replace { old, new } => format!("replace {old} by {new}"),
                Step::AddLearner(id) => format!("learn {id}"),
                Step::Promote(id) => format!("promote {id}"),
                Step::Demote(id) => format!("demote {id}"),
                Step::Forget(id) => format!("forget {id}"),
                Step::TransferLeader(id) => format!("lead {id}"),
            });
            assert!(steps.len() < 50, "no end: {steps:?}");
        }
        steps
    }

    fn voters(&self) -> Vec<u64> {
        self.voters.iter().map(|id| id.0).collect()
    }

    fn learners(&self) -> Vec<u64> {
        self.learners.iter().map(|id| id.0).collect()
    }
}

fn node(ordinal: u64) -> NodeName {
    format!("n-{ordinal}").parse().unwrap()
}

#[test]
fn votes_are_odd_and_the_lowest_ordinals_and_never_too_many() {
    let of = |nodes, voters_max| {
        let world = World::of(nodes, voters_max);
        (world.voters(), world.learners())
    };
    assert_eq!(of(1, 5), (vec![0], vec![]));
    assert_eq!(of(2, 5), (vec![0], vec![1]));
    assert_eq!(of(3, 5), (vec![0, 1, 2], vec![]));
    assert_eq!(of(4, 5), (vec![0, 1, 2], vec![3]));
    assert_eq!(of(5, 5), (vec![0, 1, 2, 3, 4], vec![]));
    assert_eq!(of(50, 5), (vec![0, 1, 2, 3, 4], vec![]));
    assert_eq!(of(4, 3), (vec![0, 1, 2], vec![]));
    assert_eq!(of(2, 3), (vec![0], vec![1]));
}

#[test]
fn growth_waits_for_two_that_are_ready() {
    let mut world = World::of(2, 5);
    world.join(2, 2);
    world.up(2, Duration::from_secs(4));
    assert_eq!(world.rest(), [""; 0]);
    world.up(2, MINUTE);
    world.lagging.insert(RaftId(2));
    assert_eq!(world.rest(), ["learn 2"]);
    world.lagging.clear();
    assert_eq!(world.rest(), ["promote 1", "promote 2"]);
}

#[test]
fn three_to_five_to_three_with_the_leader_among_the_removed() {
    let mut world = World::of(3, 5);
    world.join(3, 3);
    world.join(4, 4);
    assert_eq!(world.rest(), ["learn 3", "learn 4", "promote 3", "promote 4"]);
    world.leader = RaftId(4);
    world.set(4, MemberState::Gone);
    assert_eq!(world.rest(), ["lead 0", "demote 4", "demote 3", "forget 4"]);
    assert_eq!((world.voters(), world.learners()), (vec![0, 1, 2], vec![3]));
    world.set(3, MemberState::Gone);
    assert_eq!(world.rest(), ["forget 3"]);
    assert_eq!((world.voters(), world.learners()), (vec![0, 1, 2], vec![]));
}

#[test]
fn a_lost_disk_gives_its_vote_to_the_new_one_in_one_change() {
    let mut world = World::of(3, 3);
    world.join(1, 71);
    assert_eq!(world.rest(), ["learn 71", "replace 1 by 71", "forget 1"]);
    // Of the two that are left another loses its disk before that: still a living majority at every step.
    let mut world = World::of(3, 3);
    world.down(2, MINUTE);
    world.join(1, 71);
    assert_eq!(world.rest(), ["learn 71", "replace 1 by 71", "forget 1"]);
}

#[test]
fn who_is_down_keeps_its_vote_unless_it_is_long_and_another_can_take_it() {
    let mut world = World::of(4, 3);
    world.down(1, 9 * MINUTE);
    assert_eq!(world.rest(), [""; 0]);
    world.down(1, 10 * MINUTE);
    world.down(3, MINUTE);
    assert_eq!(world.rest(), [""; 0]);
    world.up(3, MINUTE);
    assert_eq!(world.rest(), ["learn 3", "replace 1 by 3", "forget 1"]);
    // Back, it stands in line, and has its vote again only when it has stayed for long: it has the lower ordinal.
    world.up(1, 9 * MINUTE);
    assert_eq!(world.rest(), [""; 0]);
    world.up(1, 10 * MINUTE);
    assert_eq!(world.rest(), ["learn 1", "replace 3 by 1", "forget 3"]);
    // With nobody to take it, it keeps it for ever.
    let mut world = World::of(3, 3);
    world.down(2, 100 * HOUR);
    assert_eq!(world.rest(), [""; 0]);
}

#[test]
fn a_change_half_done_is_ended_by_a_leader_that_has_part_in_it() {
    let mut world = World::of(4, 3);
    // The vote of 2 was on its way to 3 when the leader died: 2 leads, which would take its own vote away.
    let next: BTreeSet<_> = [0, 1, 3].map(RaftId).into();
    (world.voters, world.leader) = ([0, 1, 2, 3].map(RaftId).into(), RaftId(2));
    world.learners.clear();
    world.down(0, Duration::from_secs(1));
    let end = |world: &World| world.look(|inputs| end_change(inputs, &next));
    assert_eq!(end(&world), Some(EndChange::TransferLeader(RaftId(1))));
    world.lagging.insert(RaftId(1));
    assert_eq!(end(&world), Some(EndChange::TransferLeader(RaftId(3))));
    world.lagging.insert(RaftId(3));
    assert_eq!(end(&world), None, "nobody can yet");
    world.leader = RaftId(1);
    assert_eq!(end(&world), Some(EndChange::Complete));
}

#[test]
fn a_removed_voter_goes_and_the_rest_stay_odd() {
    let mut world = World::of(3, 3);
    world.set(2, MemberState::Gone);
    assert_eq!(world.rest(), ["demote 2", "demote 1", "forget 2"]);
    assert_eq!((world.voters(), world.learners()), (vec![0], vec![1]));
    // Somebody is there to take the vote, though not yet ready: it is not thrown away.
    let mut world = World::of(4, 3);
    world.up(3, Duration::ZERO);
    world.set(1, MemberState::Gone);
    assert_eq!(world.rest(), [""; 0]);
    world.up(3, MINUTE);
    assert_eq!(world.rest(), ["learn 3", "replace 1 by 3", "forget 1"]);
    // The dead one of two that were removed goes first: the other's vote is needed for that.
    let mut world = World::of(3, 3);
    world.set(1, MemberState::Gone);
    world.set(2, MemberState::Gone);
    world.down(1, MINUTE);
    assert_eq!(world.rest()[0], "demote 1");
    // Of those that live the highest goes first.
    let mut world = World::of(5, 5);
    world.set(3, MemberState::Gone);
    world.set(4, MemberState::Gone);
    assert_eq!(world.rest(), ["demote 4", "demote 3", "forget 4", "forget 3"]);
    // The only voter is removed: another votes, then leads.
    let mut world = World::of(2, 5);
    world.set(0, MemberState::Gone);
    assert_eq!(world.rest(), ["promote 1", "lead 1", "demote 0", "forget 0"]);
}

/// They have ended all but their Raft.
#[test]
fn all_but_one_go_at_once_by_the_votes_that_they_still_have() {
    let mut world = World::of(5, 5);
    world.leader = RaftId(3);
    for who in 1..5 {
        world.set(who, MemberState::Gone);
        world.down(who, MINUTE);
    }
    assert_eq!(world.rest(), [""; 0]);
    world.reached = (0..5).map(RaftId).collect();
    assert_eq!(world.rest()[..5], ["demote 4", "lead 0", "demote 3", "demote 2", "demote 1"]);
    assert_eq!((world.voters(), world.learners()), (vec![0], vec![]));
}

/// Two are being removed while the third, which is to stay, restarts: its vote must not pass to one that is about to end.
#[test]
fn the_last_that_stays_keeps_its_vote_while_it_is_away() {
    let mut world = World::of(3, 5);
    (world.leader, world.reached) = (RaftId(1), [1, 2].map(RaftId).into());
    for who in [1, 2] {
        world.set(who, MemberState::Gone);
        world.down(who, MINUTE);
    }
    world.down(0, MINUTE);
    assert_eq!(world.rest(), [""; 0]);
    world.up(0, Duration::ZERO);
    assert_eq!(world.rest()[..3], ["demote 2", "lead 0", "demote 1"]);
    assert_eq!(world.voters(), [0]);
}

#[test]
fn who_drains_or_stops_gets_no_vote_and_loses_none() {
    let mut world = World::of(3, 5);
    world.set(1, MemberState::Stopping);
    world.set(2, MemberState::Draining);
    assert_eq!(world.rest(), [""; 0]);
    world.join(3, 3);
    world.join(4, 4);
    world.set(4, MemberState::Draining);
    assert_eq!(world.rest(), ["learn 3"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_step_is_unsafe_and_every_cluster_comes_to_rest(
        events in vec((0..10_u8, 0..7_u64), 1..60),
        voters_max in prop_oneof![Just(3_usize), Just(5)],
    ) {
        let mut world = World::of(3, voters_max);
        let mut disks = 100;
        for (event, who) in events {
            let leads = world.state.members.get(&node(who)).is_some_and(|member| member.raft_id == world.leader);
            match event {
                0 | 1 => {
                    disks += 1;
                    // The leader's disk is not lost while it leads.
                    if !leads {
                        world.join(who, disks);
                    }
                }
                2 if !leads => world.down(who, MINUTE),
                3 if !leads => world.down(who, HOUR),
                4 => world.up(who, if who.is_multiple_of(2) { MINUTE } else { HOUR }),
                5 => world.set(who, MemberState::Gone),
                6 => world.set(who, MemberState::Draining),
                7 => drop(world.lagging.insert(RaftId(who))),
                8 => drop(world.raft_id(who).map(|id| world.reached.insert(id))),
                _ => world.lagging.clear(),
            }
            for _ in 0..who % 3 {
                step_safely(&mut world, voters_max)?;
            }
        }
        // All that are left come back: an odd number of voters, the lowest ordinals among them in the long run.
        world.lagging.clear();
        let left: Vec<_> = world.state.members.iter().filter(|(_, m)| m.state != MemberState::Gone).collect();
        let left: Vec<u64> = left.iter().map(|(name, _)| u64::from(name.ordinal().unwrap())).collect();
        for who in &left {
            world.set(*who, MemberState::Active);
            world.up(*who, HOUR);
        }
        for _ in 0..50 {
            step_safely(&mut world, voters_max)?;
        }
        // A majority of disks may be lost for good: then nothing can be done.
        if has_quorum(&world) && !left.is_empty() {
            prop_assert_eq!(world.next(), None);
            let copies = left.len().min(voters_max);
            let votes = if copies.is_multiple_of(2) { copies - 1 } else { copies };
            let mut ids: Vec<_> = left.iter().map(|who| world.state.members[&node(*who)].raft_id).collect();
            ids.truncate(votes);
            prop_assert_eq!(world.voters.clone(), ids.into_iter().collect());
            prop_assert_eq!(world.voters.len() + world.learners.len(), copies);
        }
    }
}

/// Takes the next step, if the group has a living majority to take it with, and looks at what it does.
fn step_safely(world: &mut World, voters_max: usize) -> Result<(), TestCaseError> {
    let Some(step) = world.next().filter(|_| has_quorum(world)) else { return Ok(()) };
    let (before, had_one_that_stays) = (world.voters.len(), has_voter_that_stays(world));
    world.take(step);
    prop_assert!(has_quorum(world), "{step:?} left no living majority");
    prop_assert!(!had_one_that_stays || has_voter_that_stays(world), "{step:?} left votes only to who was removed");
    prop_assert!(world.voters.len() <= before.max(voters_max), "{step:?} made too many voters");
    Ok(())
}

fn has_voter_that_stays(world: &World) -> bool {
    let stays = |member: &Member| member.state != MemberState::Gone && world.voters.contains(&member.raft_id);
    world.state.members.values().any(stays)
}

fn has_quorum(world: &World) -> bool {
    let is_alive = |id: &&RaftId| {
        let member = world.state.members.iter().find(|(_, member)| member.raft_id == **id);
        **id == world.leader
            || world.reached.contains(*id)
            || member.is_some_and(|(name, _)| world.health.contains_key(name))
    };
    world.voters.iter().filter(is_alive).count() * 2 > world.voters.len()
}
