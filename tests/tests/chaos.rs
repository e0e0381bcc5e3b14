//! Chaos with fixed seeds, and that its verdict can fail.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::ensure;
use sluice_tests::{chaos::play, environment};

/// A node that does not come back after its kill holds readings back, and that is seen.
#[test]
fn a_node_that_never_comes_back_is_a_loss() -> anyhow::Result<()> {
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
