//! How connections to `state.db` are opened: one writer, readers that cannot write, one that checkpoints.

use std::{path::PathBuf, time::Duration};

use rusqlite::{Connection, OpenFlags};

use crate::error::Result;

/// How safe a commit is.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Every commit is fsynced before it is answered, every blob and its folder before it is referred to.
    #[default]
    Full,
    // What follows is only for the tests that prove that the unplug tests would notice.
    /// Commits are not.
    WithoutCommitSync,
    /// Blobs are not.
    WithoutBlobSync,
    /// The folders of blobs are not.
    WithoutFolderSync,
}

/// Where the database is and through what it is read and written.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// `DIR/state.db`.
    pub(crate) path: PathBuf,
    /// A SQLite VFS by name; `None`: the system's.
    pub(crate) vfs: Option<String>,
    /// How safe commits are.
    pub(crate) durability: Durability,
}

impl Database {
    /// The connection of the writer thread. Checkpoints are left to [`Database::checkpointer`].
    pub(crate) fn writer(&self) -> Result<Connection> {
        let connection =
            self.open(OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // After a checkpoint that resets it, the file is cut back to this: 64 MiB.
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        // The writer's own pages stay cached over batches: 32 MiB.
        connection.pragma_update(None, "cache_size", -32_768)?;
        Ok(connection)
    }

    /// A connection that cannot write.
    pub(crate) fn reader(&self) -> Result<Connection> {
        let connection = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    /// A connection that only moves the WAL into the database.
    pub(crate) fn checkpointer(&self) -> Result<Connection> {
        let connection = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(connection)
    }

    fn open(&self, flags: OpenFlags) -> Result<Connection> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match &self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(&self.path, flags, vfs.as_str())?,
            None => Connection::open_with_flags(&self.path, flags)?,
        };
        connection.busy_timeout(Duration::from_secs(10))?;
        let synchronous = match self.durability {
            Durability::WithoutCommitSync => "OFF",
            _ => "FULL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        // Without this, fsync on macOS leaves the bytes in the drive's cache.
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        connection.set_prepared_statement_cache_capacity(128);
        Ok(connection)
    }
}
