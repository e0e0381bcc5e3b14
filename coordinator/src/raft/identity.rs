//! Who this disk is: format version, Raft id, and the cluster's id once there is one; and the lock that keeps a second process
//! away from it.
//!
//! The Raft id is drawn on an empty directory, and anew by a recovery. The cluster's id is written once, before anything of that
//! cluster.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{
    discard,
    files::{UNFINISHED, write_whole},
};
use crate::model::{ClusterId, RaftId};

/// Version of all that lies in the data directory. A directory of a later version is refused.
///
/// Version 1 had a cluster's id from the start, and `founded` for what are `log` and `founding` now.
const FORMAT: u32 = 2;
pub(super) const FILE: &str = "identity";
const LOCK: &str = "lock";
/// Between two attempts at it.
const LOCK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What tells this disk from every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// None until this node founds or joins a cluster.
    pub(crate) cluster_id: Option<ClusterId>,
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
    /// It is of a cluster by another name.
    #[error(
        "data directory {dir} is of a node of cluster {has:?}, not {given:?}: the name is part of every MQTT client id, so with another \
         one the sessions and what the broker keeps in them would be left behind; set `cluster: {has}`, or start with an empty directory"
    )]
    OtherName {
        /// Where.
        dir: PathBuf,
        /// The name that it was made under.
        has: String,
        /// The name that the node has now.
        given: String,
    },
    /// Its parts are of two nodes.
    #[error(
        "data directory {0} holds the log of another node: restore all of it from one backup, or start with an empty directory \
         as a new node"
    )]
    LogForeign(PathBuf),
    /// Written by a later version.
    #[error(
        "data directory {dir} has format {found}, this version of sluice knows formats up to {FORMAT}: use the version that \
         wrote it"
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
    kept: Kept,
    dir: PathBuf,
    _lock: File,
}

/// What the identity file says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    identity: Identity,
    /// What the cluster is called. None: by a version that did not keep it.
    cluster_name: Option<String>,
    /// A log was made here, so there must be one.
    has_log: bool,
    /// A cluster is being founded. With an empty log it was not, and nobody else has heard of its id.
    is_founding: bool,
}

impl DataDir {
    /// As [`open`](Self::open), but waits for a process that has the directory and may be about to end.
    pub(crate) fn open_within(dir: &Path, patience: Duration) -> Result<Self, DataDirError> {
        let (begun, mut is_told) = (Instant::now(), false);
        loop {
            match Self::open(dir) {
                Err(DataDirError::InUse(_)) if begun.elapsed() < patience => {}
                opened => return opened,
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(data_dir = %dir.display(), ?patience, "another process has the data directory; waiting for it to end");
            }
            thread::sleep(LOCK_AGAIN_AFTER);
        }
    }

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
        discard::finish(dir).map_err(io)?;
        let path = dir.join(FILE);
        let kept = match fs::read_to_string(&path) {
            Ok(text) => parse(&text, dir)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !is_empty(dir).map_err(io)? {
                    return Err(DataDirError::Foreign(dir.to_owned()));
                }
                let identity = Identity { cluster_id: None, raft_id: draw() };
                let kept = Kept { identity, cluster_name: None, has_log: false, is_founding: false };
                write_whole(&path, &[render(&kept).as_bytes()]).map_err(io)?;
                kept
            }
            Err(error) => return Err(io(error)),
        };
        Ok(Self { kept, dir: dir.to_owned(), _lock: lock })
    }

    /// Whether this is a node's data directory already.
    pub(crate) fn is_one(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.kept.identity
    }

    /// Whether the log is this node's, by whose it says it is, if anybody's, and whether it is empty.
    pub(crate) fn check_log(&self, owner: Option<RaftId>, is_empty: bool) -> Result<(), DataDirError> {
        match owner {
            Some(owner) if owner != self.kept.identity.raft_id => Err(DataDirError::LogForeign(self.dir.clone())),
            None if self.kept.has_log && is_empty => Err(DataDirError::LogLost(self.dir.clone())),
            Some(_) | None => Ok(()),
        }
    }

    /// Remembers that there is a log, which says by now whose it is. Forgets a cluster that was not founded after all.
    pub(crate) fn set_log_made(&mut self, is_empty: bool) -> io::Result<()> {
        let mut kept = Kept { has_log: true, ..self.kept.clone() };
        if std::mem::take(&mut kept.is_founding) && is_empty {
            kept.identity.cluster_id = None;
        }
        self.write(kept)
    }

    /// The cluster's id, written before anything else of that cluster.
    pub(crate) fn set_cluster(&mut self, cluster_id: ClusterId, is_founding: bool) -> io::Result<()> {
        let identity = Identity { cluster_id: Some(cluster_id), ..self.kept.identity.clone() };
        self.write(Kept { identity, is_founding, ..self.kept.clone() })
    }

    /// Keeps the cluster's name, which stays.
    pub(crate) fn set_cluster_name(&mut self, name: &str) -> Result<(), DataDirError> {
        match &self.kept.cluster_name {
            Some(has) if has == name => Ok(()),
            Some(has) => {
                Err(DataDirError::OtherName { dir: self.dir.clone(), has: has.clone(), given: name.to_owned() })
            }
            None => self
                .write(Kept { cluster_name: Some(name.to_owned()), ..self.kept.clone() })
                .map_err(|error| DataDirError::Io { dir: self.dir.clone(), error }),
        }
    }

    /// The id that this disk has from now on, whose log lies there already.
    pub(crate) fn set_raft_id(&mut self, raft_id: RaftId) -> io::Result<()> {
        let identity = Identity { raft_id, ..self.kept.identity.clone() };
        self.write(Kept { identity, has_log: true, is_founding: false, ..self.kept.clone() })
    }

    fn write(&mut self, kept: Kept) -> io::Result<()> {
        if kept != self.kept {
            write_whole(&self.dir.join(FILE), &[render(&kept).as_bytes()])?;
            self.kept = kept;
        }
        Ok(())
    }
}

/// Whether a node that is started on this directory is part of a cluster already. False also where it cannot be read, which its start tells.
pub fn is_in_cluster(data_dir: &Path) -> bool {
    let kept = fs::read_to_string(data_dir.join(FILE)).ok().and_then(|text| parse(&text, data_dir).ok());
    kept.is_some_and(|kept| kept.identity.cluster_id.is_some() && !kept.is_founding)
}

/// A Raft id that no other disk has.
pub(crate) fn draw() -> RaftId {
    RaftId(rand::random_range(1..=u64::MAX))
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

fn render(Kept { identity, cluster_name, has_log, is_founding }: &Kept) -> String {
    let cluster = identity.cluster_id.as_ref().map(|id| format!("cluster-id {id}\n")).unwrap_or_default();
    let name = cluster_name.as_ref().map(|name| format!("cluster-name {name}\n")).unwrap_or_default();
    let raft_id = identity.raft_id;
    format!("sluice-format {FORMAT}\n{cluster}{name}raft-id {raft_id}\nlog {has_log}\nfounding {is_founding}\n")
}

fn parse(text: &str, dir: &Path) -> Result<Kept, DataDirError> {
    let damaged = || DataDirError::Damaged(dir.join(FILE));
    let find = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let value = |key: &str| find(key).ok_or_else(damaged);
    let flag = |key: &str| value(key)?.parse::<bool>().map_err(|_| damaged());
    let found: u32 = value("sluice-format")?.parse().map_err(|_| damaged())?;
    if found > FORMAT {
        return Err(DataDirError::Format { dir: dir.to_owned(), found });
    }
    let identity = Identity {
        cluster_id: find("cluster-id").map(str::parse).transpose().map_err(|_| damaged())?,
        raft_id: RaftId(value("raft-id")?.parse().map_err(|_| damaged())?),
    };
    if found == 1 {
        // Its log carries no name yet; it has entries as soon as `founded` is true.
        let has_log = flag("founded")?;
        value("cluster-id")?;
        return Ok(Kept { identity, cluster_name: None, has_log, is_founding: !has_log });
    }
    let cluster_name = find("cluster-name").map(str::to_owned);
    Ok(Kept { identity, cluster_name, has_log: flag("log")?, is_founding: flag("founding")? })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_gets_an_identity_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap().identity().clone();
        assert_eq!(first.cluster_id, None);
        assert_eq!(*DataDir::open(dir.path()).unwrap().identity(), first);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(*DataDir::open(other.path()).unwrap().identity(), first);
    }

    #[test]
    fn a_second_holder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::InUse(_))));
        assert!(matches!(DataDir::open_within(dir.path(), LOCK_AGAIN_AFTER), Err(DataDirError::InUse(_))));
        let path = dir.path().to_owned();
        let next = thread::spawn(move || DataDir::open_within(&path, Duration::from_secs(60)));
        drop(held);
        next.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("log.redb"), b"x").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Foreign(_))));
    }

    #[test]
    fn the_clusters_id_stays_unless_its_founding_was_cut_short() {
        let dir = tempfile::tempdir().unwrap();
        let id: ClusterId = "00ff".parse().unwrap();
        let reopened = |is_empty| {
            let mut opened = DataDir::open(dir.path()).unwrap();
            opened.set_log_made(is_empty).unwrap();
            opened.identity().cluster_id.clone()
        };
        DataDir::open(dir.path()).unwrap().set_cluster(id.clone(), true).unwrap();
        assert!(!is_in_cluster(dir.path()));
        assert_eq!(reopened(true), None, "nothing of it is in the log");
        DataDir::open(dir.path()).unwrap().set_cluster(id.clone(), true).unwrap();
        assert_eq!(reopened(false), Some(id.clone()), "the log has its first entry");
        assert_eq!(reopened(true), Some(id), "joined, and nothing has come yet");
        assert!(is_in_cluster(dir.path()) && !is_in_cluster(&dir.path().join("absent")));
    }

    #[test]
    fn the_clusters_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        DataDir::open(dir.path()).unwrap().set_cluster_name("plant").unwrap();
        let mut opened = DataDir::open(dir.path()).unwrap();
        assert!(opened.set_cluster_name("plant").is_ok());
        let refused = opened.set_cluster_name("office").unwrap_err().to_string();
        assert!(refused.contains("\"plant\"") && refused.contains("\"office\""), "{refused}");
    }

    #[test]
    fn a_log_that_is_gone_or_of_another_node_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut opened = DataDir::open(dir.path()).unwrap();
        let me = opened.identity().raft_id;
        assert!(opened.check_log(None, true).is_ok(), "there was none yet");
        opened.set_log_made(true).unwrap();
        assert!(opened.check_log(Some(me), true).is_ok());
        assert!(matches!(opened.check_log(None, true), Err(DataDirError::LogLost(_))));
        assert!(matches!(opened.check_log(Some(RaftId(me.0 ^ 1)), false), Err(DataDirError::LogForeign(_))));
    }

    #[test]
    fn files_of_versions_1_and_2_are_read() {
        let v1 = "sluice-format 1\ncluster-id 00ff\nraft-id 18446744073709551615\nfounded true\n";
        let kept = parse(v1, Path::new("")).unwrap();
        let identity = Identity { cluster_id: Some("00ff".parse().unwrap()), raft_id: RaftId(u64::MAX) };
        assert_eq!(kept, Kept { identity, cluster_name: None, has_log: true, is_founding: false });
        let v2 = "sluice-format 2\ncluster-id 00ff\nraft-id 18446744073709551615\nlog true\nfounding false\n";
        assert_eq!(parse(v2, Path::new("")).unwrap(), kept);
        assert_eq!(render(&kept), v2);
        let unfounded = parse(&v1.replace("true", "false"), Path::new("")).unwrap();
        assert!(unfounded.is_founding && !unfounded.has_log);
        let new = parse("sluice-format 2\nraft-id 7\nlog true\nfounding false\n", Path::new("")).unwrap();
        assert_eq!(new.identity, Identity { cluster_id: None, raft_id: RaftId(7) });
    }

    #[test]
    fn another_format_and_damage_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "sluice-format 3\n").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Format { found: 3, .. })));
        fs::write(dir.path().join(FILE), "sluice-format 1\ncluster-id").unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Damaged(_))));
    }
}
