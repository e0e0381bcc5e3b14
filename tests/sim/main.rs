//! A deterministic simulation of a whole cluster, on seeds: the product's own deciding parts, put together, over a modelled Raft, network, MQTT
//! broker and Kafka, while things go wrong; then everything is mended and must come to rest with nothing lost.
//!
//! From the product: the state machine (`machine::apply`), the planner (`plan::plan`), both sides of a node's stay with the leader
//! (`attach::{Leading, KeepAlives, Told, Change}`), a node's table of tasks (`task::{table, desired, lifecycle, claim}`), the MQTT session in
//! real bytes (`pipeline::source::session`), the tracker, the back-off, the checkpoints and meters, and when a task is at its end
//! (`lane::{course, recorded}`). From the simulation: drivers as stupid as the product's (`node/`), and what surrounds a node (`raft`, `net`,
//! `broker/`, `kafka`). Not in it: librdkafka and what decides on its errors, sockets, openraft.
//!
//! ```sh
//! cargo test --release --workspace --test sim                                     # 6,000 seeds
//! SLUICE_SIM_SEEDS=20000 cargo test --release --workspace --test sim              # so many on each kind of broker
//! SLUICE_SIM_SEED=815 cargo test --release --workspace --test sim on_mosquitto    # the line that a failure printed
//! SLUICE_SIM_LINES=9999 SLUICE_SIM_SEED=815 …                                         # more of what happened before it
//! ```

mod around;
mod broker;
mod chance;
mod coverage;
mod fact;
mod faults;
mod invariants;
mod kafka;
mod mutant;
mod net;
mod node;
mod operator;
mod raft;
mod setup;
mod trace;
mod world;

use std::env;

use crate::{
    broker::profile::{EMQX, HIVEMQ, MOSQUITTO, Profile, VERNEMQ},
    coverage::Coverage,
    mutant::Mutant,
    world::{Broken, World},
};

/// Seeds on each kind of broker, unless `SLUICE_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 1_500;

/// Seeds in which a mutant must be caught.
const MUTANT_SEEDS: u64 = 200;

#[test]
fn nothing_is_lost_on_mosquitto() {
    play(MOSQUITTO);
}

#[test]
fn nothing_is_lost_on_emqx() {
    play(EMQX);
}

#[test]
fn nothing_is_lost_on_hivemq() {
    play(HIVEMQ);
}

#[test]
fn nothing_is_lost_on_vernemq() {
    play(VERNEMQ);
}

#[test]
fn a_task_that_does_not_look_at_its_epoch_is_caught() {
    is_caught(Mutant::EpochUnchecked, "no_ping_pong");
}

#[test]
fn a_task_that_connects_without_a_lease_is_caught() {
    is_caught(Mutant::ConnectsUnleased, "nobody_connects_without_a_lease");
}

#[test]
fn an_ack_before_delivery_is_caught() {
    is_caught(Mutant::AckBeforeDelivery, "acks_never_pass_the_watermark");
}

#[test]
fn a_checkpoint_of_an_old_epoch_that_is_accepted_is_caught() {
    is_caught(Mutant::OldCheckpointAccepted, "an_older_epoch_changes_nothing");
}

#[test]
fn a_broker_that_drops_its_queue_is_seen_as_loss() {
    let profile = Profile { unsubscribed_keep_queue: false, ..MOSQUITTO };
    let broken = (0..MUTANT_SEEDS).find_map(|seed| World::new(seed, profile, None, 0).run().err());
    assert_eq!(broken.map(|broken| broken.invariant), Some("nothing_acknowledged_is_lost"));
}

#[test]
fn a_seed_plays_the_same_twice() {
    for seed in 0..5 {
        assert_eq!(World::new(seed, HIVEMQ, None, 0).run(), World::new(seed, HIVEMQ, None, 9).run());
    }
}

/// Plays the default seeds, or the one that is asked for.
fn play(profile: Profile) {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("SLUICE_SIM_SEED") {
        let coverage = play_one(seed, profile);
        eprintln!("seed {seed} on {}: {coverage}", profile.name);
        return;
    }
    let (count, mut all) = (number("SLUICE_SIM_SEEDS").unwrap_or(SEEDS), Coverage::default());
    for seed in 0..count {
        all.merge(&play_one(seed, profile));
    }
    eprintln!("{count} seeds on {}: {all}", profile.name);
    if count >= SEEDS {
        for what in ["takeovers", "zombies", "redeliveries", "moves", "retirements", "elections", "repeats"] {
            assert!(all.of(what) > 0, "no {what} in {count} seeds: {all}");
        }
    }
}

fn play_one(seed: u64, profile: Profile) -> Coverage {
    let broken = match World::new(seed, profile, None, 0).run() {
        Ok(coverage) => return coverage,
        Err(broken) => broken,
    };
    // The same again, with words.
    let mut world = World::new(seed, profile, None, lines());
    let again = world.run();
    let again = if again.as_ref().err() == Some(&broken) { "" } else { "it does not play the same twice!\n" };
    let (tail, name) = (world.around.trace.tail(), profile.name);
    panic!(
        "{tail}{again}{broken}\nplay it again: SLUICE_SIM_SEED={seed} cargo test --release --workspace --test sim on_{name}"
    );
}

/// How much of a failure is told.
fn lines() -> usize {
    env::var("SLUICE_SIM_LINES").map_or(160, |lines| lines.parse().expect("a number"))
}

/// The first broken invariant among the seeds must be the one that is about the check left out.
fn is_caught(mutant: Mutant, invariant: &str) {
    let catch = |seed| -> Option<(u64, Broken)> {
        let profile = [MOSQUITTO, EMQX, HIVEMQ, VERNEMQ][usize::try_from(seed % 4).unwrap_or(0)];
        World::new(seed, profile, Some(mutant), 0).run().err().map(|broken| (seed, broken))
    };
    let (seed, broken) = (0..MUTANT_SEEDS).find_map(catch).expect("no invariant notices the mutant");
    eprintln!("{mutant:?} is caught by seed {seed}: {broken}");
    assert_eq!(broken.invariant, invariant, "{broken}");
}
