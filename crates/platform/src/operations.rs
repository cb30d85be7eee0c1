//! What operators ask of the whole platform: uploads, readiness.

use std::sync::atomic::Ordering::Relaxed;

use model::{BlobHash, ByteSize, Error, code};
use runtime::Body;

use crate::Platform;

/// Largest single file of an upload.
const LARGEST_FILE: ByteSize = ByteSize::mib(512);

impl Platform {
    /// Those of `hashes` that an upload would have to bring.
    ///
    /// # Errors
    /// When there are unreasonably many.
    pub async fn missing_blobs(&self, hashes: Vec<BlobHash>) -> Result<Vec<BlobHash>, Error> {
        if hashes.len() > 100_000 {
            return Err(Error::new(
                code::PAYLOAD_TOO_LARGE,
                "an app may have at most 100,000 files",
            ));
        }
        let blobs = self.store().blobs();
        let missing = move || {
            hashes
                .into_iter()
                .filter(|hash| !blobs.contains(hash))
                .collect()
        };
        tokio::task::spawn_blocking(missing)
            .await
            .map_err(Error::internal)
    }

    /// Takes one file, durably.
    ///
    /// # Errors
    /// `UPLOAD_MISSING` when its bytes are not those of `hash`, `PAYLOAD_TOO_LARGE`, or what the store fails with.
    pub async fn upload_blob(&self, hash: BlobHash, mut body: Body) -> Result<(), Error> {
        let mut writer = self.store().blobs().writer(LARGEST_FILE).await?;
        while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
            let frame = frame
                .map_err(|e| Error::new(code::BAD_REQUEST, "the upload broke off").context(e))?;
            if let Ok(data) = frame.into_data() {
                writer.write(data).await?;
            }
        }
        let blob = writer.finish().await?;
        if blob.hash == hash {
            return Ok(());
        }
        let message = format!("the uploaded bytes have hash {}, not {hash}", blob.hash);
        Err(Error::new(code::UPLOAD_MISSING, message))
    }

    /// From now on the platform says that it is not ready, so that nobody sends it more while it ends.
    pub fn begin_draining(&self) {
        self.0.draining.store(true, Relaxed);
    }

    /// Whether the platform can take work: it is not ending, and the store answers.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<(), Error> {
        if self.0.draining.load(Relaxed) {
            return Err(Error::new(code::SHUTTING_DOWN, "the server is stopping"));
        }
        self.store().flush().await.map_err(Error::from)
    }
}
