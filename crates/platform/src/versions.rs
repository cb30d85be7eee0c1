//! What is known of every version that has instances: what it declared, which decides what its instances may do.
//!
//! Keyed by version and not by name, so that during a switch each instance is judged by its own manifest.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use model::{AppName, Error, VersionId, Workload, WorkloadName, code};
use parking_lot::RwLock;

/// A version as the mesh knows it.
#[derive(Debug)]
pub struct Known {
    /// Its app.
    pub app: AppName,
    /// What its manifest says.
    pub workload: Workload,
    /// Host names fixed in old code that its app answers for.
    pub hosts: BTreeMap<String, WorkloadName>,
}

/// All known versions. Cheap to clone.
#[derive(Clone, Default)]
pub struct Versions(Arc<RwLock<HashMap<VersionId, Arc<Known>>>>);

impl Versions {
    /// Makes `version` known before its first instance starts.
    pub fn add(&self, version: VersionId, known: Known) {
        self.0.write().insert(version, Arc::new(known));
    }

    /// Forgets `version` after its last instance ended.
    pub fn remove(&self, version: VersionId) {
        self.0.write().remove(&version);
    }

    /// Every version that has instances, or may still start one.
    #[must_use]
    pub fn all(&self) -> Vec<VersionId> {
        self.0.read().keys().copied().collect()
    }

    /// What is known of `version`.
    ///
    /// # Errors
    /// `BAD_MESH_TOKEN`: an instance of a version that was removed has no identity any more.
    pub fn get(&self, version: VersionId) -> Result<Arc<Known>, Error> {
        let gone = || {
            Error::new(
                code::BAD_MESH_TOKEN,
                "the calling instance belongs to a version that was removed",
            )
        };
        self.0.read().get(&version).cloned().ok_or_else(gone)
    }
}

impl Known {
    /// The app and workload that `name` means for a caller of this version, if it declared that it calls it.
    ///
    /// # Errors
    /// `CALL_NOT_DECLARED`, with what to add to the manifest.
    pub fn may_call(&self, name: &str) -> Result<(AppName, WorkloadName), Error> {
        if !self.workload.calls.iter().any(|declared| declared == name) {
            let message = format!(
                "`{}/{}` does not declare that it calls `{name}`: add it to its `calls:`",
                self.app, self.workload.name
            );
            return Err(Error::new(code::CALL_NOT_DECLARED, message));
        }
        let (app, workload) = name.split_once('/').unwrap_or((self.app.as_str(), name));
        let bad = |_| {
            Error::new(
                code::NO_SUCH_WORKLOAD,
                format!("`{name}` is no name of a workload"),
            )
        };
        Ok((
            AppName::new(app).map_err(bad)?,
            WorkloadName::new(workload).map_err(bad)?,
        ))
    }

    /// Whether it declared that it publishes events of type `kind`.
    ///
    /// # Errors
    /// `PUBLISH_NOT_DECLARED`, with what to add to the manifest.
    pub fn may_publish(&self, kind: &str) -> Result<(), Error> {
        if declares(&self.workload.publishes, kind) {
            return Ok(());
        }
        let message = format!(
            "`{}/{}` does not declare that it publishes `{kind}`: add it to its `publishes:`",
            self.app, self.workload.name
        );
        Err(Error::new(code::PUBLISH_NOT_DECLARED, message))
    }
}

/// Whether `declared` (with a trailing `*` for any rest) covers `kind`.
pub(crate) fn declares(declared: &[String], kind: &str) -> bool {
    declared.iter().any(|d| match d.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => d == kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_is_exact_or_a_prefix() {
        let declared = ["order.created".to_owned(), "mail.*".to_owned()];
        assert!(declares(&declared, "order.created") && declares(&declared, "mail.sent"));
        assert!(!declares(&declared, "order.created.late") && !declares(&declared, "mai"));
    }
}
