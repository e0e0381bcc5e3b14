//! What operators do: drain and fill, rolling restart. They bite when shards moved.

use std::{collections::BTreeSet, time::Duration};

use super::{Hit, name, shards_of, victim};
use crate::{
    chaos::{bites::wait_until, seconds, stage::Stage, timeline::now_ms},
    lab::{cluster::View, rounds::Round},
};

/// Moves are few at a time, and each may take as long as a hand-over may.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) fn drain(stage: &mut Stage, view: &View, chance: &mut Round) -> anyhow::Result<Hit> {
    let number = victim(stage, view, chance, |_| true)?;
    let who = name(stage, number);
    let shards = shards_of(stage, view, &[number]);
    let begun_ms = now_ms();
    stage.cluster.admin()?.drain(&who)?;
    stage.timeline.say(&format!("draining {who}: {} shards", shards.len()));
    let drained = wait_until(PATIENCE, || stage.cluster.view().is_ok_and(|view| view.shards_of(&who).is_empty()));
    stage.cluster.admin()?.fill(&who)?;
    let evidence = match drained {
        Some(time) => format!("{who} gave {} shards away within {}", shards.len(), seconds(time)),
        None => format!("{who} still has shards after {}", seconds(PATIENCE)),
    };
    stage.timeline.say(&evidence);
    Ok(Hit { begun_ms, shards, bit: drained.is_some(), evidence })
}

pub(super) fn rolling(stage: &mut Stage, view: &View, _: &mut Round) -> anyhow::Result<Hit> {
    let begun_ms = now_ms();
    let mut with_shards = 0;
    let mut unclean = Vec::new();
    for number in 0..stage.cluster.size() {
        let who = name(stage, number);
        let shards: BTreeSet<_> = shards_of(stage, &stage.cluster.view().unwrap_or_else(|_| view.clone()), &[number]);
        with_shards += usize::from(!shards.is_empty());
        let start = std::time::Instant::now();
        stage.cluster.set_out(number, true);
        let status = stage.cluster.node(number).stop()?;
        let stopped = start.elapsed();
        if !status.success() {
            unclean.push(format!("{who}: {status}"));
        }
        stage.cluster.node(number).start_process()?;
        stage.cluster.node(number).wait_ready()?;
        stage.cluster.set_out(number, false);
        stage.timeline.say(&format!(
            "{who} stopped with {} shards in {}, ready again after {}",
            shards.len(),
            seconds(stopped),
            seconds(start.elapsed())
        ));
    }
    let size = stage.cluster.size();
    let evidence = if unclean.is_empty() {
        format!("{size} nodes stopped cleanly and started again, {with_shards} of them had shards")
    } else {
        format!("{size} nodes stopped and started again, not cleanly: {}", unclean.join(", "))
    };
    Ok(Hit { begun_ms, shards: stage.all_shards(), bit: with_shards > 0, evidence })
}
