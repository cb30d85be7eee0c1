//! Apps: their immutable revisions, and which of them is live. A switch is one row of one commit.

use std::sync::Arc;

use model::{AppName, BlobHash, Name, Namespace, RevisionId, Time};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::{
    batch::Batch,
    command::{self, Reply},
    error::{Error, Result},
    kernel::Kernel,
};

/// A deployment to store.
#[derive(Debug, Clone)]
pub struct NewRevision {
    /// Where the app's name lives.
    pub namespace: Namespace,
    /// The app.
    pub app: AppName,
    /// The manifest as it was written.
    pub manifest: String,
    /// The app as JSON.
    pub spec: String,
    /// The files of each workload's artifact as JSON.
    pub files: String,
    /// The blobs that `files` names, with their sizes: kept for as long as the revision is.
    pub blobs: Vec<(BlobHash, u64)>,
    /// When it was deployed.
    pub at: Time,
}

/// A stored deployment.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Where the app's name lives.
    pub namespace: Namespace,
    /// The app.
    pub app: AppName,
    /// Its number: 1, 2, 3 …
    pub revision: RevisionId,
    /// The manifest as it was written.
    pub manifest: String,
    /// The app as JSON.
    pub spec: String,
    /// The files of each workload's artifact as JSON.
    pub files: String,
    /// When it was deployed.
    pub at: Time,
}

/// What changes apps.
pub enum Command {
    /// Stores a revision and makes it live.
    Commit(Box<NewRevision>),
    /// Makes a stored revision live.
    Point(Namespace, AppName, RevisionId),
    /// Makes no revision live.
    Remove(Namespace, AppName),
    /// Forgets a revision that is not live, and lets go of the blobs that it was committed with.
    Forget(Namespace, AppName, RevisionId, Vec<BlobHash>),
}

/// The handle.
#[derive(Clone)]
pub struct Apps {
    kernel: Arc<Kernel>,
}

impl Apps {
    pub(crate) const fn new(kernel: Arc<Kernel>) -> Self {
        Self { kernel }
    }

    /// Stores `revision` under the app's next number and makes it live, in one commit.
    ///
    /// # Errors
    /// Those of the queue and the commit.
    pub async fn commit(&self, revision: NewRevision) -> Result<RevisionId> {
        self.run(Command::Commit(Box::new(revision)))
            .await
            .map(|reply| RevisionId(reply.count()))
    }

    /// Makes a stored revision live.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of this number.
    pub async fn point(
        &self,
        namespace: Namespace,
        app: AppName,
        revision: RevisionId,
    ) -> Result<()> {
        self.run(Command::Point(namespace, app, revision))
            .await
            .map(|_| ())
    }

    /// Takes an app out of service. Its revisions stay.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not live.
    pub async fn remove(&self, namespace: Namespace, app: AppName) -> Result<()> {
        self.run(Command::Remove(namespace, app)).await.map(|_| ())
    }

    /// Forgets a revision, unless it is live: says whether it was there. `blobs` are those it was committed with.
    ///
    /// # Errors
    /// Those of the queue and the commit.
    pub async fn forget(
        &self,
        namespace: Namespace,
        app: AppName,
        revision: RevisionId,
        blobs: Vec<BlobHash>,
    ) -> Result<bool> {
        self.run(Command::Forget(namespace, app, revision, blobs))
            .await
            .map(|reply| reply.count() > 0)
    }

    /// Every stored revision that is not live and has `newer` others of its app above it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn old(&self, newer: u32) -> Result<Vec<Revision>> {
        let sql = "SELECT namespace, app, revision, manifest, spec, files, at FROM revision r \
                   WHERE (SELECT count(*) FROM revision n WHERE n.namespace = r.namespace AND n.app = r.app \
                          AND n.revision > r.revision) >= ?1 \
                   AND NOT EXISTS (SELECT 1 FROM live l WHERE l.namespace = r.namespace AND l.app = r.app \
                                   AND l.revision = r.revision)";
        self.kernel
            .read(move |connection| rows(connection, sql, [newer]))
            .await
    }

    /// Of every live app the live revision, and the `newest` newest.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn at_hand(&self, newest: u32) -> Result<Vec<Revision>> {
        let sql = "SELECT r.namespace, r.app, r.revision, r.manifest, r.spec, r.files, r.at FROM live l \
                   JOIN revision r USING (namespace, app) WHERE r.revision = l.revision OR \
                   (SELECT count(*) FROM revision n WHERE n.namespace = r.namespace AND n.app = r.app \
                    AND n.revision > r.revision) < ?1";
        self.kernel
            .read(move |connection| rows(connection, sql, [newest]))
            .await
    }

    /// The live revision of every app, in the order of first deploys.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn live(&self) -> Result<Vec<Revision>> {
        let sql = "SELECT r.namespace, r.app, r.revision, r.manifest, r.spec, r.files, r.at FROM live l \
                   JOIN revision r USING (namespace, app, revision) ORDER BY l.first";
        self.kernel
            .read(move |connection| rows(connection, sql, []))
            .await
    }

    /// All revisions of an app, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn revisions(&self, namespace: Namespace, app: AppName) -> Result<Vec<Revision>> {
        let sql = "SELECT namespace, app, revision, manifest, spec, files, at FROM revision \
                   WHERE namespace = ?1 AND app = ?2 ORDER BY revision DESC";
        self.kernel
            .read(move |connection| rows(connection, sql, [namespace.as_str(), app.as_str()]))
            .await
    }

    /// One revision of an app.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn revision(
        &self,
        namespace: Namespace,
        app: AppName,
        revision: RevisionId,
    ) -> Result<Option<Revision>> {
        let sql = "SELECT namespace, app, revision, manifest, spec, files, at FROM revision \
                   WHERE namespace = ?1 AND app = ?2 AND revision = ?3";
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let key = (namespace.as_str(), app.as_str(), revision.0);
            Ok(statement.query_row(key, read_row).optional()?)
        };
        self.kernel.read(read).await
    }

    async fn run(&self, command: Command) -> Result<Reply> {
        self.kernel.run(command::Command::Apps(command)).await
    }
}

impl Command {
    pub(crate) fn apply(&self, batch: &mut Batch<'_>) -> Result<Reply> {
        match self {
            Self::Commit(revision) => commit(batch, revision),
            Self::Point(namespace, app, revision) => {
                let key = (namespace.as_str(), app.as_str(), revision.0);
                let found = batch.row(
                    "SELECT 1 FROM revision WHERE namespace = ?1 AND app = ?2 AND revision = ?3",
                    key,
                    |_| Ok(()),
                )?;
                found.ok_or(Error::NotFound("revision"))?;
                point(batch, namespace, app, revision.0)
            }
            Self::Remove(namespace, app) => {
                let gone = batch.execute(
                    "DELETE FROM live WHERE namespace = ?1 AND app = ?2",
                    (namespace.as_str(), app.as_str()),
                )?;
                if gone == 0 {
                    Err(Error::NotFound("app"))
                } else {
                    Ok(Reply::Done)
                }
            }
            Self::Forget(namespace, app, revision, blobs) => {
                forget(batch, (namespace.as_str(), app.as_str(), revision.0), blobs)
            }
        }
    }
}

fn forget(batch: &Batch<'_>, key: (&str, &str, u64), blobs: &[BlobHash]) -> Result<Reply> {
    let gone = batch.execute(
        "DELETE FROM revision WHERE namespace = ?1 AND app = ?2 AND revision = ?3 AND NOT EXISTS \
         (SELECT 1 FROM live WHERE namespace = ?1 AND app = ?2 AND revision = ?3)",
        key,
    )?;
    if gone > 0 {
        for blob in blobs {
            crate::blobs::refs::release(batch, &blob.0)?;
        }
    }
    Ok(Reply::Count(gone as u64))
}

fn commit(batch: &Batch<'_>, new: &NewRevision) -> Result<Reply> {
    let (namespace, app) = (new.namespace.as_str(), new.app.as_str());
    let last = batch.row(
        "SELECT coalesce(max(revision), 0) FROM revision WHERE namespace = ?1 AND app = ?2",
        (namespace, app),
        |row| row.get::<_, u64>(0),
    )?;
    let revision = last.unwrap_or(0) + 1;
    batch.execute(
        "INSERT INTO revision (namespace, app, revision, manifest, spec, files, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (namespace, app, revision, &new.manifest, &new.spec, &new.files, new.at.0),
    )?;
    for (hash, size) in &new.blobs {
        crate::blobs::refs::add(
            batch,
            &crate::blobs::BlobRef {
                hash: *hash,
                size: *size,
            },
        )?;
    }
    point(batch, &new.namespace, &new.app, revision)?;
    Ok(Reply::Count(revision))
}

fn point(batch: &Batch<'_>, namespace: &Namespace, app: &AppName, revision: u64) -> Result<Reply> {
    batch.execute(
        "INSERT INTO live (namespace, app, revision) VALUES (?1, ?2, ?3) \
         ON CONFLICT (namespace, app) DO UPDATE SET revision = excluded.revision",
        (namespace.as_str(), app.as_str(), revision),
    )?;
    Ok(Reply::Done)
}

fn rows(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<Revision>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, read_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<Revision> {
    Ok(Revision {
        namespace: name(row, 0)?,
        app: name(row, 1)?,
        revision: RevisionId(row.get(2)?),
        manifest: row.get(3)?,
        spec: row.get(4)?,
        files: row.get(5)?,
        at: Time(row.get(6)?),
    })
}

fn name(row: &Row<'_>, column: usize) -> rusqlite::Result<Name> {
    let text: String = row.get(column)?;
    Name::new(&text).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e))
    })
}
