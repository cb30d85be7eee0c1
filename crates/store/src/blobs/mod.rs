//! Payloads in files, named by what is in them: `DIR/blobs/ab/ab12…`. A blob is written, fsynced, renamed and its
//! folder fsynced before the commit that refers to it; only the writer counts references and removes, an hour later.

pub mod files;
mod put;
pub(crate) mod refs;

use std::{
    collections::HashMap,
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use model::{BlobHash, ByteSize, Time};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use put::BlobWriter;
pub use refs::{Command, GRACE};

use crate::{
    command,
    connection::Durability,
    error::{Error, Result},
    kernel::Kernel,
    options::Options,
};

/// A payload in a file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// SHA-256 of its bytes; also its name.
    pub hash: BlobHash,
    /// Bytes.
    pub size: u64,
}

/// A payload as rows have it: in the row up to the inline limit, else in a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// In the row.
    Inline(Vec<u8>),
    /// In a file.
    Blob(BlobRef),
}

impl Payload {
    /// Bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Blob(blob) => blob.size,
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The blob, when it is one.
    #[must_use]
    pub const fn blob(&self) -> Option<&BlobRef> {
        match self {
            Self::Inline(_) => None,
            Self::Blob(blob) => Some(blob),
        }
    }

    /// The two columns of a row: bytes or hash.
    pub(crate) fn columns(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        match self {
            Self::Inline(bytes) => (Some(bytes), None),
            Self::Blob(blob) => (None, Some(&blob.hash.0)),
        }
    }
}

/// What handles and the writer share.
pub(crate) struct Shared {
    root: PathBuf,
    layer: Arc<dyn files::Layer>,
    durability: Durability,
    inline: ByteSize,
    /// What this process put lately: its commit may still be on its way, so the writer leaves it alone.
    recent: Mutex<HashMap<BlobHash, Time>>,
    numbers: AtomicU64,
    swept: AtomicU32,
}

/// The blob store. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) shared: Arc<Shared>,
}

impl Shared {
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let shared = Self {
            root: options.dir.join("blobs"),
            layer: Arc::clone(&options.files),
            durability: options.durability,
            inline: options.limits.inline_payload,
            recent: Mutex::default(),
            numbers: AtomicU64::new(0),
            swept: AtomicU32::new(0),
        };
        shared.make_folders(&options.dir)?;
        Ok(shared)
    }

    /// All folders at once and durably, so that a put syncs one folder and not its parents.
    fn make_folders(&self, dir: &Path) -> Result<()> {
        let make = || {
            self.layer.create_folder(&self.root)?;
            self.layer.create_folder(&self.temporary())?;
            for first in 0..=255u8 {
                let folder = self.root.join(format!("{first:02x}"));
                if !folder.is_dir() {
                    self.layer.create_folder(&folder)?;
                }
            }
            for left_over in std::fs::read_dir(self.temporary())? {
                self.layer.remove(&left_over?.path())?;
            }
            self.layer.sync_folder(&self.root)?;
            self.layer.sync_folder(dir)
        };
        make().map_err(Error::io(&self.root))
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where the blob is.
    pub(crate) fn path(&self, hash: &BlobHash) -> PathBuf {
        self.folder(hash).join(hash.to_string())
    }

    fn folder(&self, hash: &BlobHash) -> PathBuf {
        self.root.join(format!("{:02x}", hash.0[0]))
    }

    fn next_temporary(&self) -> PathBuf {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        self.temporary().join(format!("{process}-{number}"))
    }
}

impl Blobs {
    pub(crate) const fn new(kernel: Arc<Kernel>, shared: Arc<Shared>) -> Self {
        Self { kernel, shared }
    }

    /// A payload for a row: `bytes` as they are up to the inline limit, else a blob, durable when this returns.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub async fn payload(&self, bytes: Vec<u8>) -> Result<Payload> {
        if bytes.len() <= self.shared.inline.as_usize() {
            return Ok(Payload::Inline(bytes));
        }
        self.put(Bytes::from(bytes)).await.map(Payload::Blob)
    }

    /// The bytes of a payload.
    ///
    /// # Errors
    /// [`Error::Io`] when the blob cannot be read.
    pub async fn load(&self, payload: Payload) -> Result<Bytes> {
        match payload {
            Payload::Inline(bytes) => Ok(Bytes::from(bytes)),
            Payload::Blob(blob) => self.read(blob).await,
        }
    }

    /// All bytes of a blob.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Damaged`] when it is not what it was.
    pub async fn read(&self, blob: BlobRef) -> Result<Bytes> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.read(&blob))
            .await
            .map_err(|_| Error::Closed)?
    }

    /// The blob's file, for reading in pieces.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be opened.
    pub async fn open(&self, blob: BlobRef) -> Result<tokio::fs::File> {
        let path = self.shared.path(&blob.hash);
        tokio::fs::File::open(&path).await.map_err(Error::io(path))
    }

    /// Whether the blob's file is there.
    #[must_use]
    pub fn contains(&self, hash: &BlobHash) -> bool {
        self.shared.path(hash).is_file()
    }

    /// Copies the blob to `to`, which must not be there. A copy, not a link: nobody else may write into the store.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn copy_out(&self, blob: BlobRef, to: &Path) -> Result<()> {
        let from = self.shared.path(&blob.hash);
        let copied = tokio::fs::copy(&from, to).await.map_err(Error::io(to))?;
        if copied == blob.size {
            Ok(())
        } else {
            Err(Error::Damaged(blob.hash))
        }
    }

    /// Removes what nobody refers to for an hour, and what was put without ever being referred to; a chunk each
    /// time, so that the writer is never held for long. Returns how many blobs went. Call it now and then.
    ///
    /// # Errors
    /// Those of the writer.
    pub async fn sweep(&self) -> Result<u64> {
        let folder = self.shared.swept.fetch_add(1, Ordering::Relaxed) % 256;
        let first = u8::try_from(folder).expect("below 256");
        let shared = Arc::clone(&self.shared);
        let found = tokio::task::spawn_blocking(move || shared.list(first))
            .await
            .map_err(|_| Error::Closed)??;
        let sweep = command::Command::Blobs(Command::Sweep { found });
        Ok(self.kernel.run(sweep).await?.count())
    }
}

impl Shared {
    pub(crate) fn read(&self, blob: &BlobRef) -> Result<Bytes> {
        let path = self.path(&blob.hash);
        let mut file = std::fs::File::open(&path).map_err(Error::io(&path))?;
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or(0));
        file.read_to_end(&mut bytes).map_err(Error::io(&path))?;
        if put::hash(&bytes) == blob.hash {
            Ok(Bytes::from(bytes))
        } else {
            Err(Error::Damaged(blob.hash))
        }
    }

    /// The blobs in one of the 256 folders.
    fn list(&self, first: u8) -> Result<Vec<(BlobHash, u64)>> {
        let folder = self.root.join(format!("{first:02x}"));
        let list = || -> std::io::Result<_> {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let hash = entry
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok());
                if let Some(hash) = hash {
                    found.push((hash, entry.metadata()?.len()));
                }
            }
            Ok(found)
        };
        list().map_err(Error::io(&folder))
    }
}
