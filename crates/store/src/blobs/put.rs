//! Putting blobs: into a temporary file while hashing, then fsync, rename, fsync of the folder. When this returns, the
//! blob survives a power loss; the commit that refers to it may follow.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use model::{BlobHash, ByteSize, Clock};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{
    blobs::{BlobRef, Blobs, Shared, files::Writing},
    connection::Durability,
    error::{Error, Result},
};

/// Bytes collected before they are handed to a blocking thread.
const CHUNK: usize = 256 << 10;

/// A blob in the making; dropping it before [`BlobWriter::finish`] leaves nothing.
pub struct BlobWriter {
    shared: Arc<Shared>,
    clock: Clock,
    limit: ByteSize,
    buffered: BytesMut,
    size: u64,
    /// `None` only while a blocking thread has it, or after one failed.
    open: Option<Open>,
}

struct Open {
    file: Box<dyn Writing>,
    hasher: Sha256,
    temporary: Temporary,
}

/// A temporary file; removed when dropped under its first name.
struct Temporary {
    shared: Arc<Shared>,
    path: PathBuf,
    renamed: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // What stays is removed at the next start.
            self.shared.layer.remove(&self.path).ok();
        }
    }
}

impl Blobs {
    /// Begins a blob of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn writer(&self, limit: ByteSize) -> Result<BlobWriter> {
        let shared = Arc::clone(&self.shared);
        let open = blocking(move || Open::new(shared)).await?;
        Ok(BlobWriter {
            shared: Arc::clone(&self.shared),
            clock: self.kernel.clock.clone(),
            limit,
            buffered: BytesMut::new(),
            size: 0,
            open: Some(open),
        })
    }

    /// Puts bytes at hand.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn put(&self, bytes: Bytes) -> Result<BlobRef> {
        let shared = Arc::clone(&self.shared);
        let clock = self.kernel.clock.clone();
        blocking(move || {
            let size = bytes.len() as u64;
            let blob = BlobRef {
                hash: hash(&bytes),
                size,
            };
            if shared.keep_if_there(&blob, &clock) {
                return Ok(blob);
            }
            let mut open = Open::new(Arc::clone(&shared))?;
            open.write(&bytes)?;
            open.finish(&shared, &clock, size)
        })
        .await
    }

    /// Puts what `from` yields, at most `limit` bytes of it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when there is more, [`Error::Io`].
    pub async fn put_from(
        &self,
        mut from: impl AsyncRead + Unpin,
        limit: ByteSize,
    ) -> Result<BlobRef> {
        let mut writer = self.writer(limit).await?;
        let mut chunk = BytesMut::with_capacity(CHUNK);
        loop {
            let read = from.read_buf(&mut chunk).await;
            if read.map_err(Error::io(&self.shared.root))? == 0 {
                return writer.finish().await;
            }
            writer.write(chunk.split().freeze()).await?;
            chunk.reserve(CHUNK);
        }
    }

    /// Puts a copy of the file at `path`, at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Io`].
    pub async fn put_file(&self, path: &Path, limit: ByteSize) -> Result<BlobRef> {
        let file = tokio::fs::File::open(path).await.map_err(Error::io(path))?;
        self.put_from(file, limit).await
    }
}

impl BlobWriter {
    /// Appends.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond the limit, [`Error::Io`]; the blob is lost then.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.size += bytes.len() as u64;
        if self.size > self.limit.0 {
            return Err(Error::TooLarge(self.limit));
        }
        self.buffered.extend_from_slice(&bytes);
        if self.buffered.len() >= CHUNK {
            self.hand_over().await?;
        }
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Makes the blob durable.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn finish(mut self) -> Result<BlobRef> {
        self.hand_over().await?;
        let open = self.open.take().ok_or(Error::Closed)?;
        let (shared, clock, size) = (self.shared, self.clock, self.size);
        blocking(move || open.finish(&shared, &clock, size)).await
    }

    async fn hand_over(&mut self) -> Result<()> {
        let mut open = self.open.take().ok_or(Error::Closed)?;
        let bytes = self.buffered.split().freeze();
        let open = blocking(move || open.write(&bytes).map(|()| open)).await?;
        self.open = Some(open);
        Ok(())
    }
}

impl Open {
    fn new(shared: Arc<Shared>) -> Result<Self> {
        let path = shared.next_temporary();
        let file = shared.layer.create(&path).map_err(Error::io(&path))?;
        Ok(Self {
            file,
            hasher: Sha256::new(),
            temporary: Temporary {
                shared,
                path,
                renamed: false,
            },
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.file
            .write(bytes)
            .map_err(Error::io(&self.temporary.path))
    }

    fn finish(mut self, shared: &Shared, clock: &Clock, size: u64) -> Result<BlobRef> {
        let hash = BlobHash(self.hasher.finalize().into());
        let blob = BlobRef { hash, size };
        if shared.keep_if_there(&blob, clock) {
            return Ok(blob);
        }
        let (from, to) = (&self.temporary.path, shared.path(&blob.hash));
        if shared.durability != Durability::WithoutBlobSync {
            self.file.sync().map_err(Error::io(from))?;
        }
        shared.layer.rename(from, &to).map_err(Error::io(&to))?;
        self.temporary.renamed = true;
        shared.sync_folder_of(&blob)?;
        Ok(blob)
    }
}

impl Shared {
    /// Marks the blob as just put, so that the writer does not remove it before its commit comes, and says whether
    /// its file is there already. Its name may not be durable yet when another put is between rename and sync, so
    /// the folder is synced here as well.
    fn keep_if_there(&self, blob: &BlobRef, clock: &Clock) -> bool {
        self.recent.lock().insert(blob.hash, clock.now());
        let there = std::fs::metadata(self.path(&blob.hash)).is_ok_and(|m| m.len() == blob.size);
        there && self.sync_folder_of(blob).is_ok()
    }

    fn sync_folder_of(&self, blob: &BlobRef) -> Result<()> {
        if self.durability == Durability::WithoutFolderSync {
            return Ok(());
        }
        let folder = self.folder(&blob.hash);
        self.layer.sync_folder(&folder).map_err(Error::io(folder))
    }
}

/// SHA-256.
pub(crate) fn hash(bytes: &[u8]) -> BlobHash {
    BlobHash(Sha256::digest(bytes).into())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Closed)?
}
