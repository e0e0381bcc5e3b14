//! Instructions that a reading takes in each pure stage of the data path, counted by valgrind, against committed figures.
//!
//! Unlike time they are the same on a busy day and on a fast machine. A change that makes a stage dearer by more than a tenth
//! fails here; where it is worth that, or makes a stage cheaper, `tests/instructions.json` changes with it.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, ensure};
use sluice_tests::environment;

/// Of the smaller of two runs.
const READINGS: u64 = 20_000;
const TOLERANCE: f64 = 0.10;

#[test]
fn no_stage_takes_a_tenth_more_instructions_than_committed() -> anyhow::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
    let committed: BTreeMap<String, f64> = serde_json::from_str(&fs::read_to_string(file)?)?;
    let [receive, receive_ack, map, track] = ["receive", "receive-ack", "map", "track"].map(per_reading);
    let receive = receive?;
    let found = BTreeMap::from([
        ("receive".to_owned(), receive),
        ("ack".to_owned(), receive_ack? - receive),
        ("map".to_owned(), map?),
        ("track".to_owned(), track?),
    ]);
    eprintln!("instructions per reading: {found:.1?}, committed: {committed:.1?}");
    for (stage, count) in &found {
        let limit = committed.get(stage).with_context(|| format!("no figure is committed for {stage}"))?;
        ensure!(
            *count <= limit * (1.0 + TOLERANCE),
            "{stage}: {count:.1} instructions a reading, {limit:.1} committed"
        );
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn per_reading(stage: &str) -> anyhow::Result<f64> {
    let (more, less) = (instructions(stage, 2 * READINGS)?, instructions(stage, READINGS)?);
    Ok(more.checked_sub(less).context("more readings took less")? as f64 / READINGS as f64)
}

fn instructions(stage: &str, readings: u64) -> anyhow::Result<u64> {
    let output = Command::new(environment::valgrind()?)
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(environment::built("examples/stages")?)
        .args([stage, &readings.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let count = said.lines().find_map(|line| line.split("Collected :").nth(1)).with_context(|| said.to_string())?;
    Ok(count.trim().parse()?)
}
