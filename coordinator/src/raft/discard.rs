//! A removed node's disk is thrown away, so that the node can come back as a new one.
//!
//! In two steps: a mark says that nothing here counts any more, and the next opening removes what the mark is about, and the mark last.
//! Whatever is cut short is done again.

use std::{fs, io, path::Path};

use super::{
    files::{LOG, SNAPSHOTS, sync_dir, write_whole},
    identity::{DataDir, DataDirError, FILE},
};

const MARK: &str = "discarded";
/// All that a node keeps beside its lock. What others may have put there is left alone.
const FILES: [&str; 2] = [LOG, FILE];

/// Makes the data directory of a stopped node one that was never used: with its next start it is another disk, of no cluster. For a disk
/// whose node was removed, which no cluster takes again.
///
/// # Errors
/// The directory is in use, or cannot be written.
pub fn discard(data_dir: &Path) -> Result<(), DataDirError> {
    let _held = DataDir::open(data_dir)?;
    write_whole(&data_dir.join(MARK), &[]).map_err(|error| DataDirError::Io { dir: data_dir.to_owned(), error })
}

/// Whether nothing in this directory counts any more.
pub(super) fn is_discarded(data_dir: &Path) -> bool {
    data_dir.join(MARK).exists()
}

/// To be called by who holds the directory, before anything in it is read.
pub(super) fn finish(data_dir: &Path) -> io::Result<()> {
    if !is_discarded(data_dir) {
        return Ok(());
    }
    tracing::info!(data_dir = %data_dir.display(), "this disk was thrown away: the node is a new one");
    unless_gone(fs::remove_dir_all(data_dir.join(SNAPSHOTS)))?;
    for file in FILES {
        unless_gone(fs::remove_file(data_dir.join(file)))?;
    }
    sync_dir(data_dir)?;
    fs::remove_file(data_dir.join(MARK))?;
    sync_dir(data_dir)
}

/// What is gone already was removed before this was cut short.
fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_discarded_disk_is_another_one_and_what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap().identity().clone();
        DataDir::open(dir.path()).unwrap().set_cluster("c1".parse().unwrap(), false).unwrap();
        fs::create_dir(dir.path().join(SNAPSHOTS)).unwrap();
        fs::write(dir.path().join(SNAPSHOTS).join("1"), "x").unwrap();
        fs::write(dir.path().join("log.redb"), "x").unwrap();
        discard(dir.path()).unwrap();
        // Cut short: what is gone is no obstacle.
        fs::remove_file(dir.path().join("log.redb")).unwrap();
        let second = DataDir::open(dir.path()).unwrap().identity().clone();
        assert!(second.cluster_id.is_none() && second.raft_id != first.raft_id);
        assert!(!dir.path().join(MARK).exists() && !dir.path().join(SNAPSHOTS).exists());

        fs::write(dir.path().join("notes"), "x").unwrap();
        discard(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Foreign(_))));
        assert!(dir.path().join("notes").exists());
    }

    #[test]
    fn a_disk_in_use_is_not_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let _held = DataDir::open(dir.path()).unwrap();
        assert!(matches!(discard(dir.path()), Err(DataDirError::InUse(_))));
    }
}
