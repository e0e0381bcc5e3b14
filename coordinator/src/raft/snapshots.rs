//! Snapshots as files: a header with magic, version, length and CRC-32C, then the protobuf message.
//!
//! A snapshot is there whole or not at all. The last two are kept; the newest must be readable, since the log before it is gone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    crc::crc32c,
    files::{UNFINISHED, sync_dir, write_whole},
};

const MAGIC: &[u8; 8] = b"SLUICESN";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
const EXTENSION: &str = "snapshot";
/// One to start from, and the one before it for whoever has to find out what went wrong.
const KEPT: usize = 2;

/// The directory that snapshots live in.
#[derive(Debug)]
pub(super) struct Snapshots {
    dir: PathBuf,
}

impl Snapshots {
    /// Opens the directory, making it if need be, and clears away what was never finished.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        sync_dir(dir.parent().unwrap_or(Path::new(".")))?;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { dir })
    }

    /// Keeps `bytes` as the snapshot of everything up to log index `last`, durably, and lets go of the oldest.
    pub(super) fn keep(&self, last: u64, bytes: &[u8]) -> io::Result<()> {
        let header =
            [&MAGIC[..], &VERSION.to_le_bytes(), &(bytes.len() as u64).to_le_bytes(), &crc32c(bytes).to_le_bytes()];
        write_whole(&self.dir.join(format!("{last:020}.{EXTENSION}")), &[&header.concat(), bytes])?;
        let all = self.list()?;
        for old in all.iter().rev().skip(KEPT) {
            fs::remove_file(old)?;
        }
        Ok(())
    }

    /// The newest snapshot's bytes. One that is damaged is an error, not a reason to take the one before.
    pub(super) fn newest(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(path) = self.list()?.pop() else { return Ok(None) };
        let file = fs::read(&path)?;
        let bytes = check(&file).map_err(|what| {
            let text = format!(
                "snapshot {} {what}: the disk may be failing; restore the data directory from a backup, or start this node with \
                 an empty one",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        Ok(Some(bytes.to_vec()))
    }

    /// Oldest first: names are indexes of fixed width.
    fn list(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::with_capacity(KEPT + 1);
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The bytes behind the header, if it tells the truth about them.
fn check(file: &[u8]) -> Result<&[u8], &'static str> {
    let (header, bytes) = file.split_at_checked(HEADER_BYTES).ok_or("is cut short")?;
    let (magic, header) = header.split_at(MAGIC.len());
    let (version, header) = header.split_at(4);
    let (length, crc) = header.split_at(8);
    if magic != MAGIC {
        return Err("is no snapshot");
    }
    if version != VERSION.to_le_bytes() {
        return Err("is of another version");
    }
    if length != (bytes.len() as u64).to_le_bytes() {
        return Err("has the wrong length");
    }
    if crc != crc32c(bytes).to_le_bytes() {
        return Err("has the wrong checksum");
    }
    Ok(bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn opened(dir: &tempfile::TempDir) -> Snapshots {
        Snapshots::open(dir.path().join("snapshots")).unwrap()
    }

    #[test]
    fn the_last_two_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = opened(&dir);
        assert_eq!(snapshots.newest().unwrap(), None);
        for last in [9, 10, 11] {
            snapshots.keep(last, format!("up to {last}").as_bytes()).unwrap();
        }
        assert_eq!(snapshots.newest().unwrap().unwrap(), b"up to 11");
        assert_eq!(snapshots.list().unwrap().len(), KEPT);
    }

    #[test]
    fn a_half_written_one_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        opened(&dir).keep(1, b"whole").unwrap();
        fs::write(dir.path().join("snapshots").join(format!("{:020}.{UNFINISHED}", 2)), b"SLUI").unwrap();
        assert_eq!(opened(&dir).newest().unwrap().unwrap(), b"whole");
    }

    #[test]
    fn any_flipped_byte_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = opened(&dir);
        snapshots.keep(7, b"precious").unwrap();
        let path = snapshots.list().unwrap().pop().unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            fs::write(&path, torn).unwrap();
            let error = snapshots.newest().unwrap_err().to_string();
            assert!(error.contains("7.snapshot") && error.contains("backup"), "byte {at}: {error}");
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(snapshots.newest().unwrap_err().to_string().contains("length"));
    }
}
