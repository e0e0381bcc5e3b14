//! CPU time that another process has used (Linux).

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};

/// The kernel reports CPU time to user space in 1/100 s on every architecture (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// User and system time that the process has used so far, all threads.
pub(crate) fn used_by(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("reading {path} (--node-pid)"))?;
    parse(&stat).with_context(|| format!("{path} is not as proc(5) says"))
}

fn parse(stat: &str) -> anyhow::Result<Duration> {
    // The command's name stands in parentheses and may hold anything; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').context("no command name")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    ensure!(fields.len() > 12, "too few fields");
    let ticks = fields[11].parse::<u32>()? + fields[12].parse::<u32>()?;
    Ok(TICK * ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 0 0";
        assert_eq!(parse(stat).ok(), Some(Duration::from_secs(3)));
        assert!(parse("7 (x) S").is_err());
    }
}
