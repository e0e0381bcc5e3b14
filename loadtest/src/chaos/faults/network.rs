//! Partitions. They bite when the kernel of the node's namespace had to send TCP segments again: calls went unanswered.

use super::{Hit, last, moved, name, shards_of, victim};
use crate::{
    chaos::{bites::retransmitted, seconds, stage::Stage, timeline::now_ms},
    lab::{cluster::View, network::End, rounds::Round},
};

/// Longer than a lease and an election.
const CUT_MS: (u64, u64) = (4_000, 10_000);

pub(super) fn partition(stage: &mut Stage, view: &View, chance: &mut Round) -> anyhow::Result<Hit> {
    let number = victim(stage, view, chance, |_| true)?;
    let cuts = others(stage, number).flat_map(|other| both(number, other)).collect();
    cut(stage, view, chance, number, cuts, "and the others do not hear each other")
}

pub(super) fn one_way(stage: &mut Stage, view: &View, chance: &mut Round) -> anyhow::Result<Hit> {
    let number = victim(stage, view, chance, |_| true)?;
    let is_mute = chance.below(2) == 0;
    let cuts = others(stage, number)
        .map(|other| if is_mute { (End::Host(number), other) } else { (other, End::Host(number)) });
    let what = if is_mute { "is not heard by the others" } else { "does not hear the others" };
    let cuts = cuts.collect();
    cut(stage, view, chance, number, cuts, what)
}

pub(super) fn isolate(stage: &mut Stage, view: &View, chance: &mut Round) -> anyhow::Result<Hit> {
    let number = victim(stage, view, chance, |_| true)?;
    let ends = others(stage, number).chain([End::Gateway]);
    let cuts = ends.flat_map(|other| both(number, other)).collect();
    stage.cluster.set_out(number, true);
    cut(stage, view, chance, number, cuts, "is cut off from everything")
}

fn cut(
    stage: &mut Stage,
    view: &View,
    chance: &mut Round,
    number: usize,
    cuts: Vec<(End, End)>,
    what: &str,
) -> anyhow::Result<Hit> {
    let who = name(stage, number);
    let leads = if view.leader == who { " (leader)" } else { "" };
    let shards = shards_of(stage, view, &[number]);
    let pid = stage.cluster.node(number).process()?.pid();
    let before = retransmitted(pid)?;
    let begun_ms = now_ms();
    for (from, to) in cuts {
        stage.cut(from, to)?;
    }
    // Nobody asks the minority: its view is old.
    stage.cluster.set_out(number, true);
    stage.timeline.say(&format!("{who}{leads} {what}: {} shards", shards.len()));
    let held = last(chance, CUT_MS.0, CUT_MS.1);
    let again = retransmitted(pid)?.saturating_sub(before);
    let taken = stage.cluster.view().map_or(0, |after| moved(view, &after, &shards));
    let evidence = format!(
        "{who}{leads} {what} for {}; {again} segments sent again; others took {taken} of {} shards",
        seconds(held),
        shards.len()
    );
    Ok(Hit { begun_ms, shards, bit: again > 0, evidence })
}

fn others(stage: &Stage, number: usize) -> impl Iterator<Item = End> + use<> {
    (0..stage.cluster.size()).filter(move |&other| other != number).map(End::Host)
}

fn both(number: usize, other: End) -> [(End, End); 2] {
    [(End::Host(number), other), (other, End::Host(number))]
}
