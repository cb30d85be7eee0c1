//! The revisions of an app, as they are stored.

use std::collections::BTreeMap;

use model::{App, AppName, Error, Name, RevisionId, WorkloadName, code};
use store::apps::Revision;

use super::{Deployer, Files, store_error};

impl Deployer {
    /// All revisions of `app`, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn revisions(&self, app: &AppName) -> Result<Vec<Revision>, Error> {
        self.store
            .apps()
            .revisions(Name::default_namespace(), app.clone())
            .await
            .map_err(store_error)
    }

    pub(super) async fn before(
        &self,
        app: &AppName,
        live: RevisionId,
    ) -> Result<RevisionId, Error> {
        let revisions = self.revisions(app).await?;
        revisions
            .iter()
            .map(|r| r.revision)
            .filter(|r| *r < live)
            .max()
            .ok_or_else(|| {
                Error::new(
                    code::NO_SUCH_REVISION,
                    format!("`{app}` has no revision before {live}"),
                )
            })
    }

    pub(super) async fn revision(
        &self,
        app: &AppName,
        revision: RevisionId,
    ) -> Result<Revision, Error> {
        let found = self
            .store
            .apps()
            .revision(Name::default_namespace(), app.clone(), revision)
            .await
            .map_err(store_error)?;
        found.ok_or_else(|| {
            Error::new(
                code::NO_SUCH_REVISION,
                format!("`{app}` has no revision {revision}"),
            )
        })
    }
}

/// What a stored revision describes.
pub(super) fn read_row(row: &Revision) -> Result<(App, BTreeMap<WorkloadName, Files>), Error> {
    let bad = |e| Error::internal(format!("revision {} of {}: {e}", row.revision, row.app));
    Ok((
        serde_json::from_str(&row.spec).map_err(bad)?,
        serde_json::from_str(&row.files).map_err(bad)?,
    ))
}
