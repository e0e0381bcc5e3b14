//! How many records a batch has, as Kafka keeps them: read from its disk, where each batch begins with a header of fixed length.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read as _},
    path::Path,
};

use anyhow::Context as _;

/// Of a record batch of version 2, up to and with the number of its records: base offset (8 bytes), length of what follows (4), …, number of
/// records (4 at 57). Source: Kafka's documentation, "Message format"; KIP-98.
const HEADER: usize = 61;

/// The mean over all batches of `topic` beneath `data`, Kafka's log directory. None: there is no batch.
///
/// # Errors
/// A file cannot be read, or is no log of Kafka's.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub(super) fn records_per_batch(data: &Path, topic: &str) -> anyhow::Result<Option<f64>> {
    let (mut batches, mut records) = (0_u64, 0_u64);
    for partition in fs::read_dir(data)? {
        let partition = partition?;
        let name = partition.file_name().to_string_lossy().into_owned();
        if name.rsplit_once('-').is_none_or(|(of, _)| of != topic) {
            continue;
        }
        for file in fs::read_dir(partition.path())? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                count(&path, &mut batches, &mut records).with_context(|| path.display().to_string())?;
            }
        }
    }
    Ok((batches > 0).then(|| records as f64 / batches as f64))
}

fn count(path: &Path, batches: &mut u64, records: &mut u64) -> anyhow::Result<()> {
    let mut file = BufReader::new(File::open(path)?);
    let mut header = [0; HEADER];
    loop {
        match file.read_exact(&mut header) {
            // What is just being written counts as not there.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let number = |at: usize| -> anyhow::Result<i32> { Ok(i32::from_be_bytes(header[at..at + 4].try_into()?)) };
        *batches += 1;
        *records += u64::try_from(number(57)?).context("a batch of fewer than no records")?;
        // The length counts from its own end.
        let rest = i64::from(number(8)?) + 12 - HEADER as i64;
        anyhow::ensure!(rest >= 0, "a batch that is shorter than its header");
        file.seek_relative(rest)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_one_topic_are_counted_and_an_unfinished_one_is_not() -> anyhow::Result<()> {
        let batch = |records: i32, bytes: usize| {
            let mut batch = vec![0; HEADER + bytes];
            batch[8..12].copy_from_slice(&i32::try_from(HEADER + bytes - 12).unwrap_or_default().to_be_bytes());
            batch[57..61].copy_from_slice(&records.to_be_bytes());
            batch
        };
        let dir = tempfile::tempdir()?;
        for (name, log) in [
            ("t-0", [batch(10, 300), batch(2, 0)].concat()),
            ("t-1", [batch(3, 9), vec![0; 30]].concat()),
            ("t-x-0", batch(99, 1)),
        ] {
            fs::create_dir(dir.path().join(name))?;
            fs::write(dir.path().join(name).join("00.log"), log)?;
            fs::write(dir.path().join(name).join("00.index"), "other")?;
        }
        assert_eq!(records_per_batch(dir.path(), "t")?, Some(5.0));
        assert_eq!(records_per_batch(dir.path(), "u")?, None);
        Ok(())
    }
}
