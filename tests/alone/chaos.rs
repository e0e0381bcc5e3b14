//! Chaos with fixed seeds, and that its verdict can fail. Partitions and full disks are root's: others play what is left, and say so.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::ensure;
use sluice_tests::{
    chaos::{Report, play},
    environment,
};

use crate::alone;

#[test]
fn what_is_killed_loses_nothing() -> anyhow::Result<()> {
    let report = play_each(2, &["kill-follower", "kill-leader", "kill-idle-leader", "kill-two", "kill-all"])?;
    for fault in report.faults.iter().filter(|fault| fault.bit && fault.kind == "kill-idle-leader") {
        // Readings never stop for an election; an unfenced one would take a lease, 2 s.
        ensure!(fault.gap_ms.is_some_and(|gap| gap < 1_000), "a gap without a shard: {fault:?}");
    }
    Ok(())
}

#[test]
fn what_hangs_is_cut_off_or_has_no_room_loses_nothing() -> anyhow::Result<()> {
    let kinds: &[&str] = if environment::is_root() {
        &["pause", "partition", "partition-one-way", "isolate", "full-disk"]
    } else {
        eprintln!("not root: no partitions and no full disk");
        &["pause"]
    };
    play_each(20, kinds).map(|_| ())
}

#[test]
fn what_is_stopped_on_purpose_and_what_becomes_of_the_brokers_loses_nothing() -> anyhow::Result<()> {
    play_each(200, &["drain", "rolling", "mqtt-restart", "kafka-kill"]).map(|_| ())
}

/// Each kind once, by this seed, until it has bitten, in a cluster of three whose nodes talk in TLS.
fn play_each(seed: u64, kinds: &[&str]) -> anyhow::Result<Report> {
    let _alone = alone();
    let (seed, rounds) = (seed.to_string(), kinds.len().to_string());
    let report = play(&["--nodes", "3", "--tls", "--seed", &seed, "--rounds", &rounds, "--faults", &kinds.join(",")])?;
    ensure!(report.lost == 0 && report.rounds == kinds.len(), "{report:?}");
    for kind in kinds {
        ensure!(report.faults.iter().any(|fault| fault.bit && fault.kind == *kind), "{kind} did not bite: {report:?}");
    }
    // A node may end when its disk takes no byte more. No other fault has a node end that nobody ended.
    let ended = report.faults.iter().find(|fault| !fault.ended.is_empty() && fault.kind != "full-disk");
    ensure!(ended.is_none(), "a node ended by itself: {ended:?}");
    Ok(report)
}

/// A node that does not come back after its kill holds readings back, and that is seen.
#[test]
fn a_node_that_never_comes_back_is_a_loss() -> anyhow::Result<()> {
    let _alone = alone();
    let dir = tempfile::tempdir()?;
    let (program, started) = (dir.path().join("sluice"), dir.path().join("started"));
    let text = format!(
        "#!/bin/sh\n[ ! -e '{started}' ] || exit 7\n: >'{started}'\nexec '{sluice}' \"$@\"\n",
        started = started.display(),
        sluice = environment::built("sluice")?.display()
    );
    fs::write(&program, text)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let program = program.display().to_string();
    let logs = dir.path().join("logs").display().to_string();
    let arguments = ["--nodes", "1", "--rounds", "1", "--seed", "1", "--faults", "kill-leader", "--settle", "5s"];
    let report = play(&[&arguments[..], &["--sluice", &program, "--logs", &logs]].concat())?;
    ensure!(report.lost > 0 && report.rounds == 0, "{report:?}");
    Ok(())
}
