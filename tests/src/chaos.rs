//! Runs `loadtest chaos` and reads its verdict.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::{environment, process::Process};

/// Starting everything, and a round that does not end well, take minutes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// loadtest's verdict; see `loadtest chaos --help` for the words.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    pub rounds: usize,
    pub published: u64,
    pub acknowledged: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub faults: Vec<Fault>,
}

/// One round.
#[derive(Debug, Clone, Deserialize)]
pub struct Fault {
    pub kind: String,
    pub bit: bool,
    pub gap_ms: Option<u64>,
    pub others_gap_ms: Option<u64>,
    /// Nodes that ended by themselves.
    #[serde(default)]
    pub ended: Vec<String>,
    pub evidence: String,
}

/// Plays chaos to its end, with these arguments. That readings were lost is in the verdict, and no error here.
///
/// # Errors
/// It could not be played: exit code 2.
pub fn play(arguments: &[&str]) -> anyhow::Result<Report> {
    let dir = tempfile::Builder::new().prefix("sluice-chaos-").tempdir()?;
    let mut command = Command::new(environment::built("loadtest")?);
    command.arg("chaos").args(arguments).args(["--output", "json"]);
    let out = dir.path().join("report");
    let mut process = Process::start_with_output("chaos", command, &out, &dir.path().join("log"))?;
    let status = process.wait(PATIENCE)?;
    eprintln!("{}", process.log()?);
    ensure!(matches!(status.code(), Some(0 | 1)), "chaos could not be played ({status})");
    let report: Report = serde_json::from_slice(&fs::read(out)?).context("loadtest's report")?;
    ensure!(status.success() == (report.lost == 0), "exit code {status} does not fit {report:?}");
    Ok(report)
}
