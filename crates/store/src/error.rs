//! Why the store refuses or fails, and what that is to a user.

use std::{path::PathBuf, sync::Arc};

use model::{BlobHash, ByteSize, code};

/// What the store's verbs fail with. Cheap to clone: one failed commit answers many callers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The data folder was written by a newer Tangelo; nothing was touched.
    #[error("the data folder has schema {found}, and this binary knows schemas up to {known}")]
    TooNew {
        /// The schema in the folder.
        found: u32,
        /// The newest schema of this binary.
        known: u32,
    },
    /// Another server holds the data folder.
    #[error("another server holds {}", .0.display())]
    Locked(PathBuf),
    /// The writer's queue is full: nothing was done, try again soon.
    #[error("the store takes no more work for now")]
    Busy,
    /// The log is full and its consumers hold it: nothing was done.
    #[error("the log of this namespace is full ({0}) and waits for its consumers")]
    LogFull(ByteSize),
    /// The store is closed or closing.
    #[error("the store is closed")]
    Closed,
    /// Another node owns the shard now: what this node knew of it is void.
    #[error("shard {0} belongs to another node")]
    NotOwner(u16),
    /// There is no such row.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The verb contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// A stream is not where a command expects it to be: nothing was done.
    #[error("the stream is at version {0}")]
    Version(u64),
    /// The log has lost events up to this position: nothing was done.
    #[error("the log no longer has all events up to position {0}")]
    Gone(u64),
    /// Under a key is not what the condition of a write says: nothing was written.
    #[error("what is stored under `{0}` is not what the condition of the write says")]
    Condition(String),
    /// What is under a key cannot be counted on: nothing was written.
    #[error("`{key}` cannot be incremented: {why}")]
    NotANumber {
        /// The key.
        key: String,
        /// What is wrong with its value.
        why: &'static str,
    },
    /// An app keeps as much as it may: nothing was written.
    #[error("the buckets of `{app}` hold {held}; together they take at most {most}")]
    Full {
        /// The app.
        app: String,
        /// What they would hold.
        held: String,
        /// What they may hold.
        most: String,
    },
    /// More bytes than the limit.
    #[error("larger than {0}")]
    TooLarge(ByteSize),
    /// A stored payload cannot be read back.
    #[error("a stored {0} cannot be read")]
    Corrupt(&'static str),
    /// The file of a blob is not what was written.
    #[error("the stored blob {0} is not what was written")]
    Damaged(BlobHash),
    /// SQLite failed: a full disk, a failing disk, or a fault of Tangelo.
    #[error("the database failed: {0}")]
    Sql(Arc<rusqlite::Error>),
    /// A file of the data folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
}

/// What the store's verbs return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An I/O error with the path it happened at.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            path,
            source: Arc::new(source),
        }
    }

    /// Whether only the one command is refused, and the batch that it is part of may go on.
    pub(crate) const fn is_refusal(&self) -> bool {
        !matches!(self, Self::Sql(_) | Self::Io { .. })
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(Arc::new(error))
    }
}

impl From<Error> for model::Error {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::TooNew { .. } => Self::new(code::STORE_TOO_NEW, text),
            Error::Locked(_) => Self::new(code::STORE_LOCKED, text),
            Error::Busy => {
                Self::new(code::STORE_BUSY, text).retry_after(std::time::Duration::from_millis(200))
            }
            Error::LogFull(_) => {
                Self::new(code::LOG_FULL, text).retry_after(std::time::Duration::from_secs(5))
            }
            Error::Closed => Self::new(code::SHUTTING_DOWN, text),
            Error::NotOwner(_) => Self::new(code::STORE_NOT_OWNER, text),
            Error::NotFound(_) => Self::new(code::STORE_NOT_FOUND, text),
            Error::Conflict(_) => Self::new(code::STORE_CONFLICT, text),
            Error::Version(_) => Self::new(code::STREAM_CONFLICT, text),
            Error::Gone(_) => Self::new(code::EVENTS_GONE, text),
            Error::Condition(_) => Self::new(code::KV_CONDITION, text),
            Error::NotANumber { .. } => Self::new(code::KV_NOT_A_NUMBER, text),
            Error::Full { .. } => Self::new(code::KV_FULL, text),
            Error::TooLarge(_) => Self::new(code::STORE_TOO_LARGE, text),
            Error::Corrupt(_) | Error::Damaged(_) => Self::new(code::STORE_CORRUPT, text),
            Error::Sql(error) if is_damage(&error) => {
                Self::new(code::STORE_CORRUPT, "the database `state.db` is damaged").context(text)
            }
            Error::Sql(_) | Error::Io { .. } => Self::new(
                code::STORE_FAILED,
                "the disk or the database refused a write",
            )
            .context(text),
        }
    }
}

/// Whether SQLite found a file that is no database, or no whole one.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseCorrupt | NotADatabase)
    )
}
