//! Small files that are there whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// The log, in the data directory.
pub(super) const LOG: &str = "log.redb";
/// The folder of the snapshots, in the data directory.
pub(super) const SNAPSHOTS: &str = "snapshots";

/// Writes `parts` to `path` so that after a crash the file is the old one or the new one: write beside it, fsync, rename, fsync
/// the directory.
pub(super) fn write_whole(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let beside = path.with_extension(UNFINISHED);
    let mut file = File::create(&beside)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Extension of a file that is still being written.
pub(super) const UNFINISHED: &str = "unfinished";

/// Makes renames and new files in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
