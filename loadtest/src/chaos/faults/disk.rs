//! The disk of a node is full. Bites when the node noticed: it ended, said so, or others have its shards.

use std::time::{Duration, Instant};

use super::{Hit, last, moved, name, shards_of, victim};
use crate::{
    chaos::{bites::wait_until, seconds, stage::Stage, timeline::now_ms},
    lab::{cluster::View, rounds::Round},
};

/// A node that cannot go on gives its shards back first, within its drain deadline of 10 s.
const END_WITHIN: Duration = Duration::from_secs(15);

/// How the operating system says it (ENOSPC).
const FULL: &str = "No space left on device";

pub(super) fn full(stage: &mut Stage, view: &View, chance: &mut Round) -> anyhow::Result<Hit> {
    let number = victim(stage, view, chance, |_| true)?;
    let who = name(stage, number);
    let leads = if view.leader == who { " (leader)" } else { "" };
    let shards = shards_of(stage, view, &[number]);
    let said_before = said(stage, number);
    let begun_ms = now_ms();
    stage.cluster.node(number).small_disk()?.fill()?;
    stage.timeline.say(&format!("the disk of {who}{leads} is full: {} shards", shards.len()));
    let begun = Instant::now();
    last(chance, 3_000, 8_000);
    let mut ended = None;
    wait_until(END_WITHIN, || {
        ended = stage.cluster.node(number).ended().ok().flatten();
        ended.is_some()
    });
    let held = begun.elapsed();
    if ended.is_some() {
        stage.cluster.set_out(number, true);
    }
    let says = said(stage, number) - said_before;
    let taken = stage.cluster.view().map_or(0, |after| moved(view, &after, &shards));
    stage.cluster.node(number).small_disk()?.make_room()?;
    let outcome = ended.map_or_else(|| "it went on running".to_owned(), |status| format!("it ended ({status})"));
    stage.timeline.say(&format!("there is room again: {outcome}"));
    let evidence = format!(
        "{who}{leads}, full for {}; {outcome}, said {says} times that it is full; others took {taken} of {} shards",
        seconds(held),
        shards.len()
    );
    Ok(Hit { begun_ms, shards, bit: ended.is_some() || says > 0 || taken > 0, evidence })
}

fn said(stage: &Stage, number: usize) -> usize {
    stage.cluster.nodes()[number].log().map_or(0, |log| log.matches(FULL).count())
}
