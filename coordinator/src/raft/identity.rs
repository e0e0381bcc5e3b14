//! Who this disk is: format version, cluster id, Raft id. Drawn once, on an empty directory; and the lock that keeps a second
//! process away from it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::files::{UNFINISHED, write_whole};
use crate::model::{ClusterId, RaftId};

/// Version of all that lies in the data directory. A directory of another version is refused.
const FORMAT: u32 = 1;
const FILE: &str = "identity";
const LOCK: &str = "lock";

/// What tells this disk from every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: ClusterId,
    pub(crate) raft_id: RaftId,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error("data directory {0} is in use by another process: stop that one, or give each node a directory of its own")]
    InUse(PathBuf),
    /// There is something in it, but nothing that says whose it is.
    #[error("data directory {0} is neither empty nor Sluice's: give an empty one, or restore its file 'identity'")]
    Foreign(PathBuf),
    /// The identity file cannot be read.
    #[error("{0} is damaged: restore it from a backup, or start with an empty data directory as a new node")]
    Damaged(PathBuf),
    /// The log is gone. Going on would vote twice under one Raft id, and lose what was committed.
    #[error(
        "data directory {0} has lost its log: restore it from a backup, or start with an empty directory as a new node"
    )]
    LogLost(PathBuf),
    /// Written by another version.
    #[error(
        "data directory {dir} has format {found}, this version of sluice knows format {FORMAT}: use the version that wrote it"
    )]
    Format {
        /// Where.
        dir: PathBuf,
        /// The version on disk.
        found: u32,
    },
    /// The file system said no.
    #[error("data directory {dir}: {error}")]
    Io {
        /// Where.
        dir: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// An exclusive hold on a data directory, for as long as this lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub(crate) identity: Identity,
    /// Whether Raft was started here once, so that there must be a log.
    pub(crate) is_founded: bool,
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes the directory for this process, and makes it one's own if it is empty.
    pub(crate) fn open(dir: &Path) -> Result<Self, DataDirError> {
        let io = |error| DataDirError::Io { dir: dir.to_owned(), error };
        fs::create_dir_all(dir).map_err(io)?;
        let lock = File::create(dir.join(LOCK)).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let path = dir.join(FILE);
        let (identity, is_founded) = match fs::read_to_string(&path) {
            Ok(text) => parse(&text, dir)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !is_empty(dir).map_err(io)? {
                    return Err(DataDirError::Foreign(dir.to_owned()));
                }
                let identity = draw();
                write_whole(&path, &[render(&identity, false).as_bytes()]).map_err(io)?;
                (identity, false)
            }
            Err(error) => return Err(io(error)),
        };
        Ok(Self { identity, is_founded, path, _lock: lock })
    }

    /// Remembers that Raft was started here.
    pub(crate) fn set_founded(&mut self) -> io::Result<()> {
        if !self.is_founded {
            write_whole(&self.path, &[render(&self.identity, true).as_bytes()])?;
            self.is_founded = true;
        }
        Ok(())
    }
}

fn draw() -> Identity {
    let cluster_id = format!("{:032x}", rand::random::<u128>()).parse();
    // 32 hexadecimal digits are a name, and 0 is kept for "no id".
    match cluster_id {
        Ok(cluster_id) => Identity { cluster_id, raft_id: RaftId(rand::random_range(1..=u64::MAX)) },
        Err(_) => draw(),
    }
}

/// Empty but for the lock, an identity that was never finished, and what file systems put there.
fn is_empty(dir: &Path) -> io::Result<bool> {
    let unfinished = format!("{FILE}.{UNFINISHED}");
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if ![LOCK, "lost+found", unfinished.as_str()].iter().any(|known| name == *known) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn render(Identity { cluster_id, raft_id }: &Identity, is_founded: bool) -> String {
    format!("sluice-format {FORMAT}\ncluster-id {cluster_id}\nraft-id {raft_id}\nfounded {is_founded}\n")
}

fn parse(text: &str, dir: &Path) -> Result<(Identity, bool), DataDirError> {
    let damaged = || DataDirError::Damaged(dir.join(FILE));
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).ok_or_else(damaged);
    let found = value("sluice-format")?.parse().map_err(|_| damaged())?;
    if found != FORMAT {
        return Err(DataDirError::Format { dir: dir.to_owned(), found });
    }
    let identity = Identity {
        cluster_id: value("cluster-id")?.parse().map_err(|_| damaged())?,
        raft_id: RaftId(value("raft-id")?.parse().map_err(|_| damaged())?),
    };
    Ok((identity, value("founded")?.parse().map_err(|_| damaged())?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_gets_an_identity_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap().identity;
        assert_eq!(DataDir::open(dir.path()).unwrap().identity, first);
        assert_ne!(draw(), draw());
    }

    #[test]
    fn a_second_holder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _held = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::InUse(_))));
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("log.redb"), b"x").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Foreign(_))));
    }

    #[test]
    fn a_file_of_version_1_is_read() {
        let text = "sluice-format 1\ncluster-id 00ff\nraft-id 18446744073709551615\nfounded true\n";
        let (identity, is_founded) = parse(text, Path::new("")).unwrap();
        assert_eq!((identity.cluster_id.as_str(), identity.raft_id, is_founded), ("00ff", RaftId(u64::MAX), true));
        assert_eq!(render(&identity, true), text);
    }

    #[test]
    fn another_format_and_damage_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "sluice-format 2\n").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Format { found: 2, .. })));
        fs::write(dir.path().join(FILE), "sluice-format 1\ncluster-id").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Damaged(_))));
    }
}
