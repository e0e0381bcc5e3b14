//! One round: calm, fault, healing, proof.

use std::thread;

use super::{
    ChaosArgs,
    faults::{self, Hit},
    kind::Kind,
    millis, report,
    stage::Stage,
    timeline::now_ms,
};
use crate::lab::rounds::Round;

/// Calm before a fault, by chance, in milliseconds.
const CALM_MS: (u64, u64) = (500, 2_500);

/// Plays a round.
///
/// # Errors
/// The fault could not be done, or the cluster did not get well again.
pub(crate) fn play(
    args: &ChaosArgs,
    stage: &mut Stage,
    kind: Kind,
    seed: u64,
    number: usize,
) -> anyhow::Result<report::Fault> {
    let replay = format!(
        "loadtest chaos --nodes {} --mqtt {}{}{} --rate {} --lease {}ms --rounds 1 --seed {seed} --faults {}",
        args.nodes,
        args.mqtt.name(),
        if args.plain { " --plain" } else { "" },
        if args.tls { " --tls" } else { "" },
        args.rate,
        args.lease.as_millis(),
        kind.name()
    );
    stage.timeline.say(&format!("round {}: {}   [{replay}]", number + 1, kind.name()));
    let mut chance = Round::new(seed);
    stage.wait_well(args.settle)?;
    thread::sleep(millis(CALM_MS.0 + chance.below(CALM_MS.1 - CALM_MS.0)));
    let view = stage.wait_well(args.settle)?;
    stage.load.check_running()?;
    stage.load.arrivals()?.forget();
    stage.load.excuse_for_nobody(kind.is_of_mqtt_broker());
    let (before, for_nobody) = (stage.load.counts(), stage.load.for_nobody());

    let hit = faults::inject(stage, kind, &view, &mut chance)?;
    stage.heal()?;
    let missing = stage.load.missing();
    let waited_for = missing.len();
    let lost = stage.load.wait_delivered(missing, args.settle);
    let to_ms = now_ms();
    let after = stage.load.counts();
    let (gaps, others) = gaps(stage, &hit, to_ms)?;
    let fault = report::Fault {
        round: number + 1,
        kind: kind.name(),
        bit: hit.bit,
        gap_ms: gaps.iter().copied().max(),
        others_gap_ms: others.iter().copied().max(),
        wait_max_ms: stage.load.arrivals()?.wait_ms_max(),
        lost: lost.len(),
        duplicated: after.duplicated - before.duplicated,
        for_nobody: stage.load.for_nobody() - for_nobody,
        shard_gaps_ms: gaps,
        ended: std::mem::take(&mut stage.unexpected_ends),
        evidence: hit.evidence,
        replay,
    };
    let gap = |gap: Option<u64>| gap.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    stage.timeline.say(&format!(
        "round {}: {}; gap {} (others {}), {} lost of {waited_for} that were missing, {} duplicated: {}",
        number + 1,
        if fault.bit { "bit" } else { "DID NOT BITE" },
        gap(fault.gap_ms),
        gap(fault.others_gap_ms),
        fault.lost,
        fault.duplicated,
        fault.evidence,
    ));
    Ok(fault)
}

/// The longest silence of each shard that has a zone of its own: of those concerned, and of the others.
fn gaps(stage: &Stage, hit: &Hit, to_ms: i64) -> anyhow::Result<(Vec<u64>, Vec<u64>)> {
    let concerned = stage.zones_of(&hit.shards);
    let others: Vec<u8> =
        stage.zones_of(&stage.all_shards()).into_iter().filter(|zone| !concerned.contains(zone)).collect();
    let mut arrivals = stage.load.arrivals()?;
    let mut gap = |zones: Vec<u8>| -> Vec<u64> {
        zones.into_iter().map(|zone| arrivals.longest_gap_ms(zone, hit.begun_ms, to_ms)).collect()
    };
    Ok((gap(concerned), gap(others)))
}
