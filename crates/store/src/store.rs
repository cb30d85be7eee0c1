//! Opening and closing: the lock, the schema, the threads, and the handles.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use model::Clock;
use parking_lot::{Mutex, RwLock};

use crate::{
    apps::Apps,
    blobs::{self, Blobs},
    calls::Calls,
    checkpoint::Checkpoints,
    command::{self, Command},
    connection::Database,
    crash::{Crash, Moment},
    error::{Error, Result},
    inbox::Inbox,
    kernel::Kernel,
    kv::Kv,
    lock::{FolderLock, make_folder},
    log::{self, Log},
    migrations,
    options::{Options, StoreLimits},
    outbox::Outbox,
    queue::Queue,
    readers::Readers,
    shards::{self, Shards},
    telemetry::Usage,
    writer::Writer,
};

/// A data folder, open. Cheap to clone; the last clone that goes away ends the threads without waiting for them,
/// [`Store::close`] waits.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    kernel: Arc<Kernel>,
    shards: Shards,
    blobs: Blobs,
    log: Arc<log::Shared>,
    checkpoints: Arc<Checkpoints>,
    boot: u64,
    was_clean: bool,
    crash: Crash,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What an operator may want to know of a store.
#[derive(Debug, Clone, Copy)]
pub struct Stats {
    /// Commands waiting for the writer.
    pub queued: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Pages (4 KiB) in the WAL.
    pub wal_pages: u64,
}

impl Store {
    /// Opens the data folder: takes its lock, brings its schema up to date, takes the shards, starts the writer.
    /// Blocks; call it before anything is async, or on a blocking thread.
    ///
    /// # Errors
    /// [`Error::Locked`] when another server has it, [`Error::TooNew`] when a newer one wrote it.
    pub fn open(options: Options) -> Result<Self> {
        let alone = !options.shared;
        let lock = match options.lock.clone() {
            Some(lock) => Some(lock),
            None if alone => Some(FolderLock::take(&options.dir)?),
            None => {
                make_folder(&options.dir).map_err(Error::io(&options.dir))?;
                None
            }
        };
        let database = Database {
            path: options.dir.join("state.db"),
            vfs: options.vfs.clone(),
            durability: options.durability,
        };
        let mut connection = database.writer()?;
        migrations::migrate(&mut connection)?;
        let (identity, owned, was_clean) = shards::start(&connection, &options.node, alone)?;
        let crash = options.crash.clone();
        crash.pass(Moment::Recovery);
        let limits = options.store_limits();
        let queue = Arc::new(Queue::new(limits.queue));
        let readers = Arc::new(Readers::new(database.clone(), options.clock.clone()));
        let kernel = Arc::new(Kernel {
            queue: Arc::clone(&queue),
            readers,
            clock: options.clock.clone(),
            limits,
        });
        let blob_store = Arc::new(blobs::Shared::open(&options)?);
        let checkpoints = Checkpoints::new();
        let log = Arc::new(log::Shared::default());
        let boot = identity.boot;
        let writer = Writer {
            connection,
            queue,
            clock: options.clock,
            identity,
            limits,
            log: Arc::clone(&log),
            blobs: Arc::clone(&blob_store),
            checkpoints: Arc::clone(&checkpoints),
            crash: crash.clone(),
        };
        let threads = start_threads(writer, &database, lock)?;
        Ok(Self(Arc::new(Inner {
            shards: Shards {
                kernel: Arc::clone(&kernel),
                owned: Arc::new(RwLock::new(owned)),
            },
            blobs: Blobs::new(Arc::clone(&kernel), blob_store),
            kernel,
            log,
            checkpoints,
            boot,
            was_clean,
            crash,
            threads: Mutex::new(threads),
        })))
    }

    /// Events, cursors, retries and dead letters.
    #[must_use]
    pub fn log(&self) -> Log {
        Log::new(
            Arc::clone(&self.0.kernel),
            self.0.blobs.clone(),
            Arc::clone(&self.0.log),
        )
    }

    /// Asynchronous invocations.
    #[must_use]
    pub fn calls(&self) -> Calls {
        Calls::new(
            Arc::clone(&self.0.kernel),
            self.0.blobs.clone(),
            self.0.shards.clone(),
        )
    }

    /// What workloads keep under keys.
    #[must_use]
    pub fn kv(&self) -> Kv {
        Kv::new(Arc::clone(&self.0.kernel), self.0.blobs.clone())
    }

    /// Apps and their revisions.
    #[must_use]
    pub fn apps(&self) -> Apps {
        Apps::new(Arc::clone(&self.0.kernel))
    }

    /// What workloads used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage::new(Arc::clone(&self.0.kernel))
    }

    /// What consumers have seen.
    #[must_use]
    pub fn inbox(&self) -> Inbox {
        Inbox::new(Arc::clone(&self.0.kernel))
    }

    /// Payloads in files.
    #[must_use]
    pub fn blobs(&self) -> Blobs {
        self.0.blobs.clone()
    }

    /// What one domain causes in another.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        Outbox::new(Arc::clone(&self.0.kernel))
    }

    /// What differs between two places.
    #[must_use]
    pub fn differences(&self) -> crate::reconcile::Differences {
        crate::reconcile::Differences::new(Arc::clone(&self.0.kernel))
    }

    /// Who owns what.
    #[must_use]
    pub fn shards(&self) -> Shards {
        self.0.shards.clone()
    }

    /// Ends the process here if it was told to end at this moment.
    pub fn pass(&self, moment: Moment) {
        self.0.crash.pass(moment);
    }

    /// The store's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.kernel.clock
    }

    /// The limits that the store keeps itself.
    #[must_use]
    pub fn limits(&self) -> StoreLimits {
        self.0.kernel.limits
    }

    /// How often this folder was opened, this time included.
    #[must_use]
    pub fn boot(&self) -> u64 {
        self.0.boot
    }

    /// Whether the boot before this one ended with [`Store::close`].
    #[must_use]
    pub fn was_clean(&self) -> bool {
        self.0.was_clean
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (queued, queued_bytes) = self.0.kernel.queue.depth();
        Stats {
            queued,
            queued_bytes,
            wal_pages: self.0.checkpoints.wal_pages(),
        }
    }

    /// Waits until everything that was put into the queue before is durable.
    ///
    /// # Errors
    /// Those of the commit.
    pub async fn flush(&self) -> Result<()> {
        let flush = Command::Kernel(command::Kernel::Flush);
        self.0.kernel.run(flush).await.map(|_| ())
    }

    /// Forgets what is queued and ends without a word, as a crash does: for tests only.
    #[doc(hidden)]
    pub fn crash(&self) {
        self.0.kernel.queue.abandon();
        self.0.kernel.readers.close();
    }

    /// Writes what is queued, marks the end as clean, ends the threads and frees the lock. Later calls of any clone
    /// fail with [`Error::Closed`].
    ///
    /// # Errors
    /// Those of the last commit; the threads are ended all the same.
    pub async fn close(&self) -> Result<()> {
        let clean = Command::Kernel(command::Kernel::CloseCleanly);
        let written = match self.0.kernel.run(clean).await {
            Err(Error::Closed) => Ok(()),
            other => other.map(|_| ()),
        };
        self.0.kernel.queue.close();
        self.0.kernel.readers.close();
        let threads = std::mem::take(&mut *self.0.threads.lock());
        let ended = tokio::task::spawn_blocking(move || threads.into_iter().for_each(join));
        ended.await.map_err(|_| Error::Closed)?;
        written
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.kernel.queue.close();
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the store panicked");
    }
}

/// The threads own the lock: it is freed when the last of them ended, never while one may still write.
fn start_threads(
    mut writer: Writer,
    database: &Database,
    lock: Option<FolderLock>,
) -> Result<Vec<JoinHandle<()>>> {
    let lock = Arc::new(lock);
    let held = Arc::clone(&lock);
    let checkpointer = database.checkpointer()?;
    let checkpoints = Arc::clone(&writer.checkpoints);
    let watched = Arc::clone(&checkpoints);
    writer.connection.wal_hook(Some(move |_: &mut _, pages| {
        watched.committed(u64::try_from(pages).unwrap_or(0));
        Ok(())
    }))?;
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(Error::io(&database.path))
    };
    Ok(vec![
        spawn(
            "store-writer",
            Box::new(move || {
                writer.run();
                drop(held);
            }),
        )?,
        spawn(
            "store-checkpoint",
            Box::new(move || {
                checkpoints.run(&checkpointer);
                drop(checkpointer);
                drop(lock);
            }),
        )?,
    ])
}
