//! `sluice demo` with several nodes: a killed one costs no reading, and no process stays, however the demo ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use sluice_tests::{environment, eventually::within, process::Process};
use tempfile::TempDir;

/// Starting three nodes, fifteen seconds of readings, and stopping, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// What nodes may take to stop when nobody is left to deliver to.
const STOP: Duration = Duration::from_secs(40);
/// Every process that the demo starts inherits it.
const MARK: &str = "SLUICE_TEST_DEMO";

/// The line that the demo ends with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    published: u64,
    delivered: u64,
    lost: u64,
    duplicated: u64,
    p50_ms: f64,
    p99_ms: f64,
    kills: Vec<Killed>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Killed {
    node: String,
    shards: u64,
    gap_ms: Option<u64>,
}

#[test]
fn a_killed_leader_costs_no_reading_and_leaves_no_process() -> anyhow::Result<()> {
    let mut demo = Demo::start(&["--duration", "14s", "--kill-after", "3s", "--shards", "6", "-o", "json"])?;
    demo.wait_nodes(3)?;
    let status = demo.process.wait(PATIENCE)?;
    let printed = fs::read_to_string(&demo.printed)?;
    let report: Report = serde_json::from_str(&printed).with_context(|| format!("printed {printed:?}"))?;
    ensure!(status.success() && report.lost == 0, "{status}: {report:?}");
    ensure!(report.delivered == report.published && report.published > 14_000, "{report:?}");
    // What was in flight is repeated, and no more.
    ensure!(report.duplicated < 4_000 && report.p50_ms <= report.p99_ms, "{report:?}");
    let [killed] = &report.kills[..] else { anyhow::bail!("not one kill: {report:?}") };
    ensure!(killed.shards == 2 && killed.node.starts_with("sluice-"), "{killed:?}");
    ensure!(killed.gap_ms.is_some_and(|gap_ms| gap_ms > 0), "its shards must flow again: {killed:?}");
    demo.check_nothing_left()
}

#[test]
fn no_node_outlives_a_demo_that_is_told_to_stop_or_killed() -> anyhow::Result<()> {
    // A stop while the nodes are still looking for each other, then one that nobody can react to.
    let mut demo = Demo::start(&["-o", "json"])?;
    demo.wait_nodes(3)?;
    demo.process.terminate(STOP)?;
    demo.check_nothing_left()?;
    let mut demo = Demo::start(&["-o", "json"])?;
    demo.wait_nodes(3)?;
    demo.process.kill()?;
    within(STOP, "the nodes stop by themselves", || demo.check_marked(0))
}

struct Demo {
    process: Process,
    mark: String,
    printed: PathBuf,
    /// Where the demo makes its temporary directory.
    dir: TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (temporary, printed) = (dir.path().join("tmp"), dir.path().join("stdout"));
        fs::create_dir(&temporary)?;
        let mark = dir.path().display().to_string();
        let mut command = Command::new(environment::built("sluice")?);
        command.args(["demo", "--nodes", "3", "--rate", "2000", "--devices", "50"]).args(arguments);
        command.env("TMPDIR", &temporary).env(MARK, &mark);
        let process = Process::start_with_output("demo", command, &printed, &dir.path().join("log"))?;
        Ok(Self { process, mark, printed, dir })
    }

    /// Waits until so many nodes run.
    fn wait_nodes(&mut self, count: usize) -> anyhow::Result<()> {
        let mark = self.mark.clone();
        self.process.wait_for("the nodes run", || check_marked(&mark, count + 1))
    }

    fn check_marked(&self, count: usize) -> anyhow::Result<()> {
        check_marked(&self.mark, count)
    }

    fn check_nothing_left(&self) -> anyhow::Result<()> {
        self.check_marked(0)?;
        let left: Vec<_> = fs::read_dir(self.dir.path().join("tmp"))?.collect();
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    }
}

/// Fails unless so many processes bear the mark.
fn check_marked(mark: &str, count: usize) -> anyhow::Result<()> {
    let wanted = format!("{MARK}={mark}");
    let bears = |process: &Path| {
        // Of a zombie, and of one that has just gone, nothing can be read.
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let processes = fs::read_dir("/proc")?.filter_map(|entry| Some(entry.ok()?.path()));
    let found: Vec<_> = processes.filter(|process| bears(process)).collect();
    ensure!(found.len() == count, "{} processes, not {count}: {found:?}", found.len());
    Ok(())
}
