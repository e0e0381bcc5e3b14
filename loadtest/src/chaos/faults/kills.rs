//! kill -9. Bites when the nodes had readings in flight just before, by their own metrics.

use std::time::Duration;

use super::{Hit, last, name, names, shards_of};
use crate::{
    chaos::{
        bites::{wait_in_flight, wait_until},
        seconds,
        stage::Stage,
        timeline::now_ms,
    },
    lab::{cluster::View, rounds::Round},
};

/// They stay down for so long: longer than a lease and an election, so that others must take over.
const DOWN_MS: (u64, u64) = (4_000, 9_000);

pub(super) fn kill(stage: &mut Stage, view: &View, chance: &mut Round, victims: &[usize]) -> anyhow::Result<Hit> {
    let shards = shards_of(stage, view, victims);
    let in_flight = wait_in_flight(stage, victims);
    let begun_ms = now_ms();
    end(stage, victims)?;
    let leads = victims.iter().any(|&number| name(stage, number) == view.leader);
    let role = if leads { "the leader among them" } else { "no leader among them" };
    let who = names(stage, victims);
    stage.timeline.say(&format!("killed {who} ({role}): {} shards, {in_flight} readings in flight", shards.len()));
    let down = last(chance, DOWN_MS.0, DOWN_MS.1);
    let evidence = format!("{who}, {role}, down for {}; {in_flight} readings were in flight", seconds(down));
    Ok(Hit { begun_ms, shards, bit: in_flight > 0, evidence })
}

/// Kills a leader that has given all its shards away before. Concerns all shards: none should notice.
pub(super) fn idle_leader(stage: &mut Stage, view: &View, chance: &mut Round) -> anyhow::Result<Hit> {
    let victim = stage.cluster.number(&view.leader)?;
    let who = view.leader.clone();
    stage.cluster.admin()?.drain(&who)?;
    let drained =
        wait_until(Duration::from_secs(60), || stage.cluster.view().is_ok_and(|view| view.shards_of(&who).is_empty()));
    let before = stage.cluster.view()?;
    let still_leads = before.leader == who;
    let begun_ms = now_ms();
    end(stage, &[victim])?;
    stage.timeline.say(&format!("killed {who}, which led (now still: {still_leads}) and owned nothing"));
    let elected = wait_until(Duration::from_secs(30), || {
        stage
            .cluster
            .view()
            .is_ok_and(|after| after.term > before.term && !after.leader.is_empty() && after.leader != who)
    });
    let down = last(chance, DOWN_MS.0, DOWN_MS.1);
    stage.cluster.admin()?.fill(&who)?;
    let evidence = format!(
        "{who} led: {still_leads}, owned nothing: {}; another leads after {}; down for {}",
        drained.is_some(),
        elected.map_or_else(|| "30 s not yet".to_owned(), seconds),
        seconds(down)
    );
    let bit = still_leads && drained.is_some() && elected.is_some();
    Ok(Hit { begun_ms, shards: stage.all_shards(), bit, evidence })
}

fn end(stage: &mut Stage, victims: &[usize]) -> anyhow::Result<()> {
    for &number in victims {
        stage.cluster.set_out(number, true);
        stage.cluster.node(number).kill()?;
    }
    Ok(())
}
