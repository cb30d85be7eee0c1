//! Snapshots of streams: what became of one up to a version, as its workload keeps it. The latest alone.

use std::sync::Arc;

use bytes::Bytes;
use model::{Namespace, Time};

use crate::{
    batch::Batch,
    blobs::{Payload, refs},
    command,
    error::{Error, Result},
    format,
    log::{Command, Log, StreamKey, append, read, streams},
    queue::Urgency,
};

/// What became of a stream up to a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last event that is in it.
    pub version: u64,
    /// When it was put; not looked at when it is put.
    pub at: Time,
    /// Its media type.
    pub kind: String,
    /// What it is; its workload's own.
    pub body: Bytes,
}

/// A snapshot on its way.
pub struct Put {
    namespace: Namespace,
    key: StreamKey,
    version: u64,
    kind: String,
    payload: Payload,
}

impl Log {
    /// Puts a snapshot of a stream, instead of an earlier one.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Version`] when the stream has not come that far; [`Error::Conflict`] when a later one is there;
    /// those of the writer.
    pub async fn put_snapshot(
        &self,
        namespace: &Namespace,
        key: StreamKey,
        snapshot: Snapshot,
    ) -> Result<()> {
        let size = snapshot.body.len() + 256;
        let put = Put {
            namespace: namespace.clone(),
            key,
            version: snapshot.version,
            kind: snapshot.kind,
            payload: self
                .blobs
                .payload(format::encode_raw(&snapshot.body))
                .await?,
        };
        let command = command::Command::Log(Command::Snapshot(Box::new(put)));
        let pending = self.kernel.submit(command, Urgency::Intake, size)?;
        pending.done().await.map(|_| ())
    }

    /// The snapshot of a stream, when there is one.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn snapshot(
        &self,
        namespace: &Namespace,
        key: StreamKey,
    ) -> Result<Option<Snapshot>> {
        let namespace = namespace.clone();
        let blobs = Arc::clone(&self.blobs.shared);
        self.kernel
            .read(move |connection| {
                let Some((id, _)) = streams::find(connection, &namespace, &key)? else {
                    return Ok(None);
                };
                let mut statement = connection.prepare_cached(
                    "SELECT version, at, kind, body, blob FROM snapshot WHERE stream = ?1",
                )?;
                let mut rows = statement.query([id])?;
                let Some(row) = rows.next()? else {
                    return Ok(None);
                };
                let bytes = match read::payload(connection, row.get(3)?, row.get(4)?)? {
                    Payload::Inline(bytes) => bytes.into(),
                    Payload::Blob(blob) => blobs.read(&blob)?,
                };
                Ok(Some(Snapshot {
                    version: row.get(0)?,
                    at: Time(row.get(1)?),
                    kind: row.get(2)?,
                    body: format::decode_raw(&bytes)?,
                }))
            })
            .await
    }
}

impl Put {
    pub(super) fn apply(&self, batch: &mut Batch<'_>) -> Result<()> {
        let log = append::head(batch, &self.namespace)?.log;
        let row = streams::row(batch, log, &self.key)?.ok_or(Error::NotFound("stream"))?;
        if self.version == 0 || self.version > row.version {
            return Err(Error::Version(row.version));
        }
        let before: Option<(u64, Option<Vec<u8>>)> = batch.row(
            "SELECT version, blob FROM snapshot WHERE stream = ?1",
            [row.id],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        if let Some((later, _)) = before
            .as_ref()
            .filter(|(version, _)| *version > self.version)
        {
            return Err(Error::Conflict(format!(
                "the stream has a snapshot of version {later} already"
            )));
        }
        if let Some(blob) = self.payload.blob() {
            refs::add(batch, blob)?;
        }
        let (body, blob) = self.payload.columns();
        batch.execute(
            "INSERT OR REPLACE INTO snapshot (stream, version, at, kind, body, blob) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (row.id, self.version, batch.now.0, &self.kind, body, blob),
        )?;
        match before.and_then(|(_, blob)| blob) {
            Some(hash) => refs::release(batch, &hash),
            None => Ok(()),
        }
    }
}
