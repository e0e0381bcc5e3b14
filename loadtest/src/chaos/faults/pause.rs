//! SIGSTOP beyond the lease, then SIGCONT. Bites when others own the shards before the node goes on.
//!
//! Afterwards the node must not fight for its sessions: the broker's log says how often it connected again for shards it had lost.

use std::{collections::BTreeSet, thread, time::Duration};

use super::{Hit, last, moved, name, shards_of, victim};
use crate::{
    chaos::{
        bites::{connections_from, most_since},
        seconds,
        stage::Stage,
        timeline::now_ms,
    },
    lab::{cluster::View, rounds::Round},
};

/// Below the time for which a node must be stable before the plan gives it shards again: what connects by then is a habit.
const WATCH: Duration = Duration::from_secs(4);

pub(super) fn pause(stage: &mut Stage, view: &View, chance: &mut Round) -> anyhow::Result<Hit> {
    let number = victim(stage, view, chance, |_| true)?;
    let who = name(stage, number);
    let shards = shards_of(stage, view, &[number]);
    let begun_ms = now_ms();
    stage.cluster.set_out(number, true);
    stage.cluster.node(number).process()?.pause()?;
    stage.timeline.say(&format!("stopped {who}{}: {} shards", leads(view, &who), shards.len()));
    let lease_ms = u64::try_from(stage.lease.as_millis()).unwrap_or(u64::MAX);
    let held = last(chance, lease_ms + 1_500, lease_ms + 6_000);
    let missing = stage.load.missing().len();
    let taken = stage.cluster.view().map_or(0, |after| moved(view, &after, &shards));
    let before = connections(stage, number);
    stage.cluster.node(number).process()?.unpause()?;
    stage.timeline.say(&format!("{who} goes on after {}; others have {taken} of its shards", seconds(held)));
    thread::sleep(WATCH);
    let again = match (before, connections(stage, number)) {
        (Some(before), Some(after)) => {
            let (most, client) = most_since(&before, &after);
            format!("; it connected again at most {most} times as the same client {client}")
        }
        _ => String::new(),
    };
    // A cluster of one has nobody to take over: then readings that wait are the bite.
    let bit = if stage.cluster.size() == 1 { missing > 0 } else { taken == shards.len() };
    let evidence = format!(
        "{who}{}, stopped for {}; others took {taken} of {} shards; {missing} readings waited{again}",
        leads(view, &who),
        seconds(held),
        shards.len()
    );
    Ok(Hit { begun_ms, shards: if bit { shards } else { BTreeSet::new() }, bit, evidence })
}

fn leads(view: &View, who: &str) -> &'static str {
    if view.leader == who { " (leader)" } else { "" }
}

/// None: addresses or log do not tell.
fn connections(stage: &Stage, number: usize) -> Option<std::collections::BTreeMap<String, u32>> {
    let address = stage.cluster.network.as_ref()?.host(number).address;
    connections_from(stage, address.into()).ok()
}
