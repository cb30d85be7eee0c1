//! Counting who refers to a blob, inside the writer's transactions, and removing what nobody does. A removal holds the
//! list of recent puts, so that a put that found the file is never left without it.

use std::time::Duration;

use model::BlobHash;

use crate::{
    batch::Batch,
    blobs::{BlobRef, Shared},
    command::Reply,
    error::{Error, Result},
};

/// How long a blob stays that nobody refers to.
pub const GRACE: Duration = Duration::from_secs(3600);
/// Most removals in one command.
const CHUNK: u32 = 64;

/// Verbs of the blob store that need the writer.
pub enum Command {
    /// Removes what is free for longer than [`GRACE`]; blobs among `found` that no row knows begin their hour now.
    Sweep {
        /// The blobs of one folder.
        found: Vec<(BlobHash, u64)>,
    },
}

impl Command {
    pub(crate) fn apply(&self, batch: &mut Batch<'_>) -> Result<Reply> {
        let Self::Sweep { found } = self;
        for (hash, size) in found {
            batch.execute(
                "INSERT INTO blob (hash, size, refs, free_since) VALUES (?1, ?2, 0, ?3)
                 ON CONFLICT (hash) DO NOTHING",
                (&hash.0[..], size, batch.now.0),
            )?;
        }
        sweep(batch).map(Reply::Count)
    }
}

/// One row refers to the blob from now on.
pub(crate) fn add(batch: &Batch<'_>, blob: &BlobRef) -> Result<()> {
    batch.execute(
        "INSERT INTO blob (hash, size, refs) VALUES (?1, ?2, 1)
         ON CONFLICT (hash) DO UPDATE SET refs = refs + 1, free_since = NULL",
        (&blob.hash.0[..], blob.size),
    )?;
    Ok(())
}

/// One row refers to it no longer.
pub(crate) fn release(batch: &Batch<'_>, hash: &[u8]) -> Result<()> {
    batch.execute(
        "UPDATE blob SET refs = refs - 1, free_since = iif(refs = 1, ?2, NULL) WHERE hash = ?1",
        (hash, batch.now.0),
    )?;
    Ok(())
}

/// The size of a blob that a row refers to.
pub(crate) fn size(connection: &rusqlite::Connection, hash: &[u8]) -> Result<u64> {
    let mut statement = connection.prepare_cached("SELECT size FROM blob WHERE hash = ?1")?;
    Ok(statement.query_row([hash], |row| row.get(0))?)
}

fn sweep(batch: &Batch<'_>) -> Result<u64> {
    let shared: &Shared = batch.blobs;
    let mut recent = shared.recent.lock();
    recent.retain(|_, put| batch.now.since(*put) < GRACE);
    let mut statement = batch
        .prepare("SELECT hash FROM blob WHERE free_since <= ?1 ORDER BY free_since LIMIT ?2")?;
    let expired = statement
        .query_map(((batch.now - GRACE).0, CHUNK), |row| {
            row.get::<_, [u8; 32]>(0).map(BlobHash)
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut removed = 0;
    for hash in expired.iter().filter(|hash| !recent.contains_key(*hash)) {
        remove(shared, hash)?;
        batch.execute("DELETE FROM blob WHERE hash = ?1", [&hash.0[..]])?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes the file first: a row without a file is swept again, a file without a row would be found again.
fn remove(shared: &Shared, hash: &BlobHash) -> Result<()> {
    let path = shared.path(hash);
    match shared.layer.remove(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io(path)),
    }
}
