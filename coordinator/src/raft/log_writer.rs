//! The thread that writes the log: takes all that waits, writes it in one transaction, then tells everybody.
//!
//! Order is kept across all kinds of writes. After a write has failed nothing is written any more: what is on disk is then
//! anybody's guess, and Raft must stop.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    thread,
};

use openraft::storage::IOFlushed;
use redb::{Database, Durability};
use tokio::sync::{mpsc, oneshot};

use super::{
    log_store::{COMMITTED, ENTRIES, FORMER, META, OWNER, PURGED, Shared, VOTE, closed, storage},
    types::TypeConfig,
};

/// Told when the write is on disk, or why it is not.
pub(super) type Done = oneshot::Sender<io::Result<()>>;

/// Most writes in one commit, so that the first of them does not wait long.
const WRITES_PER_COMMIT_MAX: usize = 256;

/// One write.
pub(super) enum Write {
    Vote(Vec<u8>, Done),
    Append(Vec<(u64, Arc<[u8]>)>, IOFlushed<TypeConfig>),
    /// Needs no durability of its own.
    Committed(Option<Vec<u8>>),
    /// Whose log it is.
    Owner(u64, Done),
    /// All that makes the log another's.
    Anew(Anew, Done),
    /// Removes all entries from this index on.
    Truncate(u64, Done),
    /// Removes all entries up to and with this index.
    Purge(u64, Vec<u8>, Done),
    /// Writes what came before and lets go of the file.
    Close(Done),
}

/// A log that passes to another Raft id.
#[derive(Debug)]
pub(super) struct Anew {
    pub(super) owner: u64,
    pub(super) former: u64,
    pub(super) vote: Vec<u8>,
    pub(super) entries: Vec<(u64, Arc<[u8]>)>,
}

/// Starts the thread. It ends with `Close`, or when nobody can write any more.
pub(super) fn spawn(shared: Arc<Shared>, queue: mpsc::Receiver<Write>) -> io::Result<()> {
    thread::Builder::new().name("raft-log".to_owned()).spawn(move || run(&shared, queue)).map(drop)
}

fn run(shared: &Shared, mut queue: mpsc::Receiver<Write>) {
    let mut failed: Option<String> = None;
    let mut is_closing = false;
    while !is_closing {
        let Some(first) = queue.blocking_recv() else { break };
        let mut batch = vec![first];
        while batch.len() < WRITES_PER_COMMIT_MAX
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        is_closing = batch.iter().any(|write| matches!(write, Write::Close(_)));
        if failed.is_none() {
            failed = try_commit(shared, &batch).err().map(|error| error.to_string());
        }
        if failed.is_none() {
            forget(shared, &batch);
        }
        if is_closing {
            *shared.db.write().unwrap_or_else(PoisonError::into_inner) = None;
            queue.close();
        }
        for write in batch {
            write.done(failed.as_deref());
        }
    }
    // Raft waits for ever for a write that is never answered.
    let closed = closed().to_string();
    while let Some(late) = queue.blocking_recv() {
        late.done(Some(failed.as_deref().unwrap_or(&closed)));
    }
}

/// As `commit`; a panic of the store is a failure like any other, for the same reason.
fn try_commit(shared: &Shared, batch: &[Write]) -> io::Result<()> {
    let committed = catch_unwind(AssertUnwindSafe(|| commit(shared, batch)));
    committed.unwrap_or_else(|_| Err(io::Error::other("the log store panicked")))
}

/// Writes a batch in one transaction.
fn commit(shared: &Shared, batch: &[Write]) -> io::Result<()> {
    let db = shared.db.read().unwrap_or_else(PoisonError::into_inner);
    let db: &Database = db.as_ref().ok_or_else(closed)?;
    let mut txn = db.begin_write().map_err(storage)?;
    let is_lazy = batch.iter().all(|write| matches!(write, Write::Committed(_)));
    txn.set_durability(if is_lazy { Durability::None } else { Durability::Immediate }).map_err(storage)?;
    {
        let mut entries = txn.open_table(ENTRIES).map_err(storage)?;
        let mut meta = txn.open_table(META).map_err(storage)?;
        for write in batch {
            match write {
                Write::Vote(vote, _) => drop(meta.insert(VOTE, vote.as_slice()).map_err(storage)?),
                Write::Owner(owner, _) => drop(meta.insert(OWNER, &owner.to_le_bytes()[..]).map_err(storage)?),
                Write::Append(appended, _) | Write::Anew(Anew { entries: appended, .. }, _) => {
                    for (index, entry) in appended {
                        entries.insert(index, &**entry).map_err(storage)?;
                    }
                }
                Write::Committed(Some(id)) => drop(meta.insert(COMMITTED, id.as_slice()).map_err(storage)?),
                Write::Committed(None) => drop(meta.remove(COMMITTED).map_err(storage)?),
                Write::Truncate(from, _) => entries.retain_in(*from.., |_, _| false).map_err(storage)?,
                Write::Purge(upto, id, _) => {
                    entries.retain_in(..=*upto, |_, _| false).map_err(storage)?;
                    meta.insert(PURGED, id.as_slice()).map_err(storage)?;
                }
                Write::Close(_) => {}
            }
            if let Write::Anew(Anew { owner, former, vote, .. }, _) = write {
                meta.insert(VOTE, vote.as_slice()).map_err(storage)?;
                meta.insert(OWNER, &owner.to_le_bytes()[..]).map_err(storage)?;
                meta.insert(FORMER, &former.to_le_bytes()[..]).map_err(storage)?;
            }
        }
    }
    txn.commit().map_err(storage)
}

/// What is on disk need not be in memory, unless something newer has taken its place there.
fn forget(shared: &Shared, batch: &[Write]) {
    let mut memory = shared.memory();
    for write in batch {
        let Write::Append(appended, _) = write else { continue };
        for (index, entry) in appended {
            if memory.unflushed.get(index).is_some_and(|held| Arc::ptr_eq(held, entry)) {
                memory.unflushed.remove(index);
            }
        }
    }
}

impl Write {
    fn done(self, failed: Option<&str>) {
        let result = failed.map_or(Ok(()), |why| Err(io::Error::other(why.to_owned())));
        match self {
            // Whoever asked may have gone; then nobody needs to know.
            Self::Vote(_, done)
            | Self::Owner(_, done)
            | Self::Anew(_, done)
            | Self::Truncate(_, done)
            | Self::Purge(_, _, done)
            | Self::Close(done) => drop(done.send(result)),
            Self::Append(_, callback) => callback.io_completed(result),
            Self::Committed(_) => {}
        }
    }
}
