//! A bound on the CPU time of a process: a control group of its own, which only root may make.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

use super::watchdog::Undo;

/// How often what a process may use is given anew: several times within the shortest time that nodes wait for each other, and long enough
/// that what the kernel hands to each core of it does not matter.
const PERIOD: Duration = Duration::from_millis(50);
/// Where version 1 has the controller of CPU time, and where version 2 has all.
const V1: &str = "/sys/fs/cgroup/cpu";
const V2: &str = "/sys/fs/cgroup";

/// A process that is held back. Dropping it lets the process go.
#[derive(Debug)]
pub struct Quota {
    group: PathBuf,
    _undo: Undo,
}

impl Quota {
    /// From now on the process has so many percent of one core.
    ///
    /// # Errors
    /// There are no control groups for CPU time here, or this is not root.
    pub fn limit(pid: u32, percent: u32) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        ensure!((1..=1_000).contains(&percent), "{percent} % of a core");
        let quota_us = PERIOD.as_micros() * u128::from(percent) / 100;
        let period_us = PERIOD.as_micros();
        let (root, settings) = match root()? {
            (root, true) => (root, vec![("cpu.max", format!("{quota_us} {period_us}"))]),
            (root, false) => {
                (root, vec![("cpu.cfs_period_us", period_us.to_string()), ("cpu.cfs_quota_us", quota_us.to_string())])
            }
        };
        let group = root.join(format!("sluice-{}-{}", process::id(), NUMBER.fetch_add(1, Relaxed)));
        let (group_name, root_name) = (group.display().to_string(), root.display());
        // A group goes only when nobody is in it.
        let undo = Undo::later(&format!(
            "for p in $(cat '{group_name}/cgroup.procs'); do echo $p >'{root_name}/cgroup.procs'; done; rmdir '{group_name}'"
        ))?;
        fs::create_dir(&group).with_context(|| format!("a bound on CPU time needs root, to make {group_name}"))?;
        for (name, value) in settings {
            write(&group, name, &value)?;
        }
        write(&group, "cgroup.procs", &pid.to_string())?;
        Ok(Self { group, _undo: undo })
    }

    /// For how long in all the process would have gone on and might not: whole periods in which the bound stopped it.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn held_back(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(self.group.join("cpu.stat"))?;
        let count = stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")).context("no nr_throttled")?;
        Ok(PERIOD * count.trim().parse::<u32>()?)
    }
}

/// Where groups for CPU time are made, and whether they are of version 2.
fn root() -> anyhow::Result<(PathBuf, bool)> {
    let v2 = fs::read_to_string(Path::new(V2).join("cgroup.subtree_control")).unwrap_or_default();
    if v2.split_ascii_whitespace().any(|controller| controller == "cpu") {
        return Ok((V2.into(), true));
    }
    if Path::new(V1).join("cpu.cfs_quota_us").exists() {
        return Ok((V1.into(), false));
    }
    bail!("no control groups for CPU time in {V2}")
}

fn write(group: &Path, name: &str, value: &str) -> anyhow::Result<()> {
    let path = group.join(name);
    fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))
}
