//! File descriptors: a firehose has two for each session, a node one, and both inherit the bound of whoever starts them.

use std::fs;

use anyhow::{Context as _, ensure};

/// What a process needs besides: logs, Raft, Kafka, and room.
const BESIDES: u64 = 300;

/// Fails if this process, and so its children, may not open as many files as `sessions` need (Linux).
///
/// # Errors
/// The bound is too low.
pub(crate) fn check(sessions: u32) -> anyhow::Result<()> {
    let (needed, limits) = (2 * u64::from(sessions) + BESIDES, fs::read_to_string("/proc/self/limits")?);
    let bound = soft_bound(&limits).context("/proc/self/limits without open files")?;
    ensure!(
        bound >= needed,
        "{sessions} sessions need {needed} open files, and {bound} are allowed: ulimit -n {needed}, or choose other cases"
    );
    Ok(())
}

fn soft_bound(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_ascii_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_bound_is_what_counts() {
        let limits = "Limit       Soft Limit  Hard Limit  Units\nMax open files            1024      524288    files\n";
        assert_eq!(soft_bound(limits), Some(1024));
        assert_eq!(soft_bound("Max open files  unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(soft_bound(""), None);
    }
}
