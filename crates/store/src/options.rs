//! What a store is opened with.

use std::{path::PathBuf, sync::Arc, time::Duration};

use model::{ByteSize, Clock, Limits};

use crate::{blobs::files, connection::Durability, crash::Crash, lock::FolderLock};

/// What a store is opened with. [`Options::new`] is what a server uses.
#[derive(Clone)]
pub struct Options {
    /// The data folder; made when absent.
    pub dir: PathBuf,
    /// The folder's lock, where it was taken before; else the store takes it.
    pub lock: Option<FolderLock>,
    /// The store's clock.
    pub clock: Clock,
    /// Limits of the platform.
    pub limits: Limits,
    /// How long an event's id is remembered.
    pub dedup_window: Duration,
    /// Bytes of the log of one namespace, beyond which it takes no more if nothing of it may be removed.
    pub log_bytes: ByteSize,
    /// The name of this node among the nodes of the database.
    pub node: String,
    /// A SQLite VFS by name; `None`: the system's.
    pub vfs: Option<String>,
    /// When to end without notice: for soaks.
    pub crash: Crash,
    /// How safe commits are: for tests only.
    #[doc(hidden)]
    pub durability: Durability,
    /// What blobs are written through: for tests only.
    #[doc(hidden)]
    pub files: Arc<dyn files::Layer>,
    /// Whether other nodes share the database, so that the lock is not taken and shards are leased: for tests only,
    /// until a database that can be shared enters.
    #[doc(hidden)]
    pub shared: bool,
}

impl Options {
    /// A store in `dir` with everything as it should be.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, clock: Clock) -> Self {
        Self {
            dir: dir.into(),
            lock: None,
            clock,
            limits: Limits::default(),
            dedup_window: Duration::from_secs(600),
            log_bytes: ByteSize::mib(10_240),
            node: "local".to_owned(),
            vfs: None,
            crash: Crash::default(),
            durability: Durability::Full,
            files: Arc::new(files::Disk),
            shared: false,
        }
    }

    pub(crate) const fn store_limits(&self) -> StoreLimits {
        StoreLimits {
            inline: self.limits.inline_payload,
            queue: self.limits.writer_queue,
            log: self.log_bytes,
            dedup_window: self.dedup_window,
            kv_value: self.limits.keyvalue_value,
            kv_keys: self.limits.keyvalue_keys,
            kv_bytes: self.limits.keyvalue_bytes,
        }
    }
}

/// The limits that the store keeps itself.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Payloads up to this size stay in their row.
    pub inline: ByteSize,
    /// Bytes of commands waiting for the writer.
    pub queue: ByteSize,
    /// Bytes of the log of one namespace.
    pub log: ByteSize,
    /// How long an event's id is remembered.
    pub dedup_window: Duration,
    /// Bytes of a value under a key.
    pub kv_value: ByteSize,
    /// Keys in all buckets of one app.
    pub kv_keys: u64,
    /// Bytes of keys and values in all buckets of one app.
    pub kv_bytes: ByteSize,
}
