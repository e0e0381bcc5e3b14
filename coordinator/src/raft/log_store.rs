//! The durable log: entries, vote, committed and purged, in one redb file.
//!
//! One thread writes (`log_writer`), in order and many writes a commit, so that no async thread ever waits for a disk.
//! What is appended can be read at once, from memory until it is on disk; its callback comes after the disk has it.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use openraft::{
    LogState, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::{
    codec::{damaged, decode_entry, decode_log_id, decode_vote, encode_entry, encode_log_id, encode_vote},
    log_writer::{self, Anew, Write},
    types::{Entry, LogId, TypeConfig, Vote},
};
use crate::{model::RaftId, wire::DecodeError};

/// Encoded entries by log index.
pub(super) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// Encoded vote, committed and purged log ids, by these names.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const VOTE: &str = "vote";
pub(super) const COMMITTED: &str = "committed";
pub(super) const PURGED: &str = "purged";
/// The Raft id of the node whose log it is, 8 bytes, little-endian.
pub(super) const OWNER: &str = "owner";
/// Likewise, whose it was before a recovery; absent where there was none.
pub(super) const FORMER: &str = "former";

/// The log is short, and what is read was written just before: a small cache does.
const CACHE_BYTES: usize = 16 << 20;
/// Writes on their way to the thread. Raft has far fewer open at a time; beyond this it waits.
const WRITES_MAX: usize = 1_024;

/// Entries that travel in one message. Large against a message's costs, small against what a heartbeat may wait for.
const APPEND_BYTES_MAX: usize = 1 << 20;

/// The log, and a reader of it: clones share everything.
#[derive(Debug, Clone)]
pub(super) struct LogStore {
    shared: Arc<Shared>,
    writes: mpsc::Sender<Write>,
}

/// What the writing thread and the readers share.
#[derive(Debug)]
pub(super) struct Shared {
    /// None once the log is closed.
    pub(super) db: RwLock<Option<Database>>,
    memory: Mutex<Memory>,
}

/// What reads need not go to disk for.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Appended, not yet on disk.
    pub(super) unflushed: BTreeMap<u64, Arc<[u8]>>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    owner: Option<RaftId>,
    former: Option<RaftId>,
}

impl Shared {
    /// No code panics while it holds the lock, so what a poisoned one guards is whole.
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogStore {
    /// Opens the log at `path`, making an empty one if there is none.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let db = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(storage)?;
        let memory = load(&db)?;
        let shared = Arc::new(Shared { db: RwLock::new(Some(db)), memory: Mutex::new(memory) });
        let (writes, queue) = mpsc::channel(WRITES_MAX);
        log_writer::spawn(shared.clone(), queue)?;
        Ok(Self { shared, writes })
    }

    /// Writes what is left and closes the file, so that it can be opened again. Every later call fails.
    pub(super) async fn close(&self) -> io::Result<()> {
        self.write(Write::Close).await
    }

    /// Whether nothing was ever written: neither an entry nor a vote.
    pub(super) fn is_empty(&self) -> bool {
        let memory = self.shared.memory();
        memory.last.is_none() && memory.vote.is_none()
    }

    /// Whose log it says it is; logs of the first version do not say.
    pub(super) fn owner(&self) -> Option<RaftId> {
        self.shared.memory().owner
    }

    /// Writes whose log it is.
    pub(super) async fn set_owner(&self, owner: RaftId) -> io::Result<()> {
        self.write(|done| Write::Owner(owner.0, done)).await?;
        self.shared.memory().owner = Some(owner);
        Ok(())
    }

    /// Whose log it was before it became its owner's.
    pub(super) fn former(&self) -> Option<RaftId> {
        self.shared.memory().former
    }

    /// Makes the log of `former` that of `owner`, with a vote and entries of the latter's: all of it or nothing. To be closed then.
    pub(super) async fn pass_to(
        &self,
        owner: RaftId,
        former: RaftId,
        vote: &Vote,
        entries: &[Entry],
    ) -> io::Result<()> {
        let entries = entries.iter().map(|entry| (entry.log_id.index, encode_entry(entry).into())).collect();
        let anew = Anew { owner: owner.0, former: former.0, vote: encode_vote(vote), entries };
        self.write(|done| Write::Anew(anew, done)).await
    }

    /// Queues a write and waits until it is on disk.
    async fn write(&self, write: impl FnOnce(log_writer::Done) -> Write) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.writes.send(write(done)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// The entries of a range, or as many of the first of them, one at least, as have `bytes_max` together.
    fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let db = self.shared.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or_else(closed)?;
        let (txn, mut found) = {
            // Both under the lock: an entry leaves memory only after the commit that this transaction then sees.
            let memory = self.shared.memory();
            let unflushed: BTreeMap<_, _> = memory.unflushed.range(from..to).map(|(at, e)| (*at, e.clone())).collect();
            (db.begin_read().map_err(storage)?, unflushed)
        };
        let table = txn.open_table(ENTRIES).map_err(storage)?;
        let rows = table.range(from..to).map_err(storage)?.map(|row| -> io::Result<(u64, Arc<[u8]>)> {
            let (index, entry) = row.map_err(storage)?;
            Ok((index.value(), entry.value().into()))
        });
        add_rows(&mut found, rows, bytes_max)?;
        let mut bytes = 0_usize;
        let mut entries = Vec::with_capacity(found.len());
        for entry in found.into_values() {
            bytes = bytes.saturating_add(entry.len());
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(decode_entry(&entry)?);
        }
        Ok(entries)
    }

    fn range(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let entries = if from < to { self.read(from, to, bytes_max)? } else { Vec::new() };
        let hole = entries.windows(2).find(|pair| pair[0].log_id.index + 1 != pair[1].log_id.index);
        match hole {
            None => Ok(entries),
            Some(pair) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the log has a hole between {} and {}", pair[0].log_id, pair[1].log_id),
            )),
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        self.range(from, to, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.memory().vote)
    }

    /// What one append carries: not more than [`APPEND_BYTES_MAX`], and at least one entry.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.range(start, end, APPEND_BYTES_MAX)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let memory = self.shared.memory();
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: memory.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let encoded = encode_vote(vote);
        self.write(|done| Write::Vote(encoded, done)).await?;
        self.shared.memory().vote = Some(*vote);
        Ok(())
    }

    /// Rides along with the next write that has to be durable: losing it costs only a later start of applying after a crash.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let encoded = committed.as_ref().map(encode_log_id);
        self.shared.memory().committed = committed;
        self.writes.send(Write::Committed(encoded)).await.map_err(|_| closed())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.memory().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut encoded = Vec::new();
        {
            let mut memory = self.shared.memory();
            for entry in entries {
                let bytes: Arc<[u8]> = encode_entry(&entry).into();
                memory.unflushed.insert(entry.log_id.index, bytes.clone());
                memory.last = Some(entry.log_id);
                encoded.push((entry.log_id.index, bytes));
            }
        }
        self.writes.send(Write::Append(encoded, callback)).await.map_err(|_| closed())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index.saturating_add(1));
        {
            let mut memory = self.shared.memory();
            memory.unflushed.split_off(&from);
            if memory.last.is_some_and(|end| end.index >= from) {
                memory.last = last.max(memory.purged);
            }
        }
        self.write(|done| Write::Truncate(from, done)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        {
            let mut memory = self.shared.memory();
            memory.unflushed = memory.unflushed.split_off(&upto.index.saturating_add(1));
            memory.purged = Some(upto);
            memory.last = memory.last.max(Some(upto));
        }
        let encoded = encode_log_id(&upto);
        self.write(|done| Write::Purge(upto.index, encoded, done)).await
    }
}

/// Adds rows, which come in order, to what came from memory, which is newer. Ends as soon as what is there up to a row is more than
/// `bytes_max`: a follower far behind is sent a piece of the log at a time, and the rest need not be loaded for each.
fn add_rows(
    found: &mut BTreeMap<u64, Arc<[u8]>>,
    rows: impl Iterator<Item = io::Result<(u64, Arc<[u8]>)>>,
    bytes_max: usize,
) -> io::Result<()> {
    let mut bytes = 0_usize;
    for row in rows {
        let (index, entry) = row?;
        bytes = bytes.saturating_add(found.entry(index).or_insert(entry).len());
        if bytes > bytes_max {
            break;
        }
    }
    Ok(())
}

/// Reads what memory starts with, and makes sure that the tables exist.
fn load(db: &Database) -> io::Result<Memory> {
    let txn = db.begin_write().map_err(storage)?;
    let memory = {
        let entries = txn.open_table(ENTRIES).map_err(storage)?;
        let meta = txn.open_table(META).map_err(storage)?;
        let get = |key| Ok::<_, io::Error>(meta.get(key).map_err(storage)?.map(|value| value.value().to_vec()));
        let purged = get(PURGED)?.map(|bytes| decode_log_id(&bytes)).transpose()?;
        let last = match entries.last().map_err(storage)? {
            Some((_, entry)) => Some(decode_entry(entry.value())?.log_id),
            None => purged,
        };
        Memory {
            unflushed: BTreeMap::new(),
            vote: get(VOTE)?.map(|bytes| decode_vote(&bytes)).transpose()?,
            committed: get(COMMITTED)?.map(|bytes| decode_log_id(&bytes)).transpose()?,
            purged,
            last,
            owner: get(OWNER)?.map(|bytes| decode_owner(&bytes)).transpose()?,
            former: get(FORMER)?.map(|bytes| decode_owner(&bytes)).transpose()?,
        }
    };
    txn.commit().map_err(storage)?;
    Ok(memory)
}

fn decode_owner(bytes: &[u8]) -> io::Result<RaftId> {
    let bytes = bytes.try_into().map_err(|_| damaged(DecodeError::Field("the log's owner")))?;
    Ok(RaftId(u64::from_le_bytes(bytes)))
}

/// redb's many errors are all the same to Raft: the disk failed it.
pub(super) fn storage(error: impl Into<redb::Error>) -> io::Error {
    io::Error::other(error.into())
}

pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn no_more_rows_are_loaded_than_fit() {
        let mut loaded = 0;
        let rows = (0..300).map(|index| {
            loaded += 1;
            Ok((index, vec![0_u8; 100].into()))
        });
        let mut found = BTreeMap::new();
        add_rows(&mut found, rows, 1_000).unwrap();
        assert_eq!(loaded, 11);
        assert_eq!(found.into_keys().collect::<Vec<_>>(), (0..11).collect::<Vec<_>>());
    }

    #[test]
    fn what_memory_has_counts_in_the_place_of_a_row() {
        let row = |bytes: usize| -> Arc<[u8]> { vec![0_u8; bytes].into() };
        // Index 1 was written anew and has become small: the rows must reach up to 3, which is in memory only.
        let mut found = BTreeMap::from([(1, row(1)), (3, row(1))]);
        let rows = [(0, row(400)), (1, row(900)), (2, row(400))].map(Ok);
        add_rows(&mut found, rows.into_iter(), 1_000).unwrap();
        assert_eq!(found.values().map(|entry| entry.len()).collect::<Vec<_>>(), [400, 1, 400, 1]);
    }
}
