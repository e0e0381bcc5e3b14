//! A small disk that can be filled, mounted where a node keeps its data. Needs root.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use super::{environment, watchdog::Undo};

/// More than a node writes in an hour of chaos, and quickly filled.
const BYTES: u64 = 96 * 1024 * 1024;
const FILLER: &str = "filler";

/// A file system in memory, mounted until this is dropped.
#[derive(Debug)]
pub struct Disk {
    _mounted: Undo,
    place: PathBuf,
}

impl Disk {
    /// Fails with a sentence where disks cannot be mounted.
    ///
    /// # Errors
    /// This process is not root.
    pub fn check_possible() -> anyhow::Result<()> {
        ensure!(
            environment::is_root(),
            "a full disk needs a small file system of its own, and only root may mount one"
        );
        Ok(())
    }

    /// Mounts an empty one at `place`, which is made.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mount(place: &Path) -> anyhow::Result<Self> {
        Self::check_possible()?;
        fs::create_dir_all(place)?;
        // Lazily: a node that ends this very moment may still hold a file.
        let mounted = Undo::later(&format!("umount -l '{}'", place.display()))?;
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={BYTES}"), "tmpfs"]).arg(place).output()?;
        ensure!(output.status.success(), "mounting a small disk: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { _mounted: mounted, place: place.to_owned() })
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// It cannot be written for another reason than that it is full.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.place.join(FILLER))?;
        for size in [1 << 20, 4096, 1] {
            let chunk = vec![0_u8; size];
            for written in 0.. {
                match file.write_all(&chunk) {
                    Ok(()) if written as u64 * size as u64 > BYTES => bail!("the disk does not get full"),
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling the disk"),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// It was not full.
    pub fn make_room(&self) -> anyhow::Result<()> {
        fs::remove_file(self.place.join(FILLER)).context("making room on the disk")
    }
}
