//! Removing what no revision needs that is kept: old revisions themselves, unpacked artifacts, compiled code.
//!
//! What is removed here can be made again from the blobs of the revisions that stay, so that a rollback to any of them
//! works and only takes longer. Nothing is unpacked or brought up meanwhile.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::atomic::Ordering::Relaxed,
};

use model::{Error, Run, VersionId};
use store::apps::Revision;

use super::{Deployer, artifact, revisions, store_error};

/// Of each app, the newest so many revisions stay unpacked and compiled beside the live one, so that going back to them
/// is fast.
const AT_HAND: u32 = 3;

/// What the folder of a version that is being removed is called, so that a new one can be made in its place.
const GONE: &str = "gone";

impl Deployer {
    /// Removes what no revision needs that is kept.
    ///
    /// # Errors
    /// When the store or the disk cannot be read or written; what was not removed is the next sweep's.
    pub(crate) async fn sweep(&self) -> Result<(), Error> {
        let gone = {
            let _now = self.one_at_a_time.lock().await;
            if !self.claims.are_none() {
                // What is brought up may be about to read what no revision has yet.
                self.unswept.store(true, Relaxed);
                return Ok(());
            }
            self.forget_old().await?;
            let (versions, components) = self.at_hand().await?;
            let (unpacked, runtime) = (self.unpacked.clone(), self.runtime.clone());
            let set_aside = move || {
                runtime.sweep_compiled(&components)?;
                set_aside(&unpacked, &versions)
            };
            blocking(set_aside).await?
        };
        // A large folder takes a while; deploys need not wait for it.
        blocking(move || gone.iter().try_for_each(std::fs::remove_dir_all)).await
    }

    /// Old revisions let go of their blobs.
    async fn forget_old(&self) -> Result<(), Error> {
        let apps = self.store.apps();
        for row in apps.old(self.keep_revisions).await.map_err(store_error)? {
            let (_, files) = revisions::read_row(&row)?;
            let blobs = files.values().flatten().map(|file| file.hash).collect();
            apps.forget(row.namespace, row.app, row.revision, blobs)
                .await
                .map_err(store_error)?;
        }
        Ok(())
    }

    /// The versions that stay on disk, and the components among them.
    async fn at_hand(&self) -> Result<(HashSet<VersionId>, Vec<PathBuf>), Error> {
        let rows = self.store.apps().at_hand(AT_HAND).await;
        let (mut versions, mut components) = (HashSet::new(), Vec::new());
        for row in rows.map_err(store_error)? {
            self.versions_of(&row, &mut versions, &mut components)?;
        }
        // What finishes its last requests is no revision's any more.
        versions.extend(self.versions.all());
        Ok((versions, components))
    }

    fn versions_of(
        &self,
        row: &Revision,
        versions: &mut HashSet<VersionId>,
        components: &mut Vec<PathBuf>,
    ) -> Result<(), Error> {
        let (app, files) = revisions::read_row(row)?;
        let none = super::Files::default();
        for (name, workload) in &app.workloads {
            let files = files.get(name).unwrap_or(&none);
            let version = artifact::version(&app, workload, files)?;
            if let Run::Wasm { component, .. } = &workload.run {
                components.push(self.unpacked.join(version.to_string()).join(component));
            }
            versions.insert(version);
        }
        Ok(())
    }
}

/// Renames the folders of all other versions, and answers with what is to be removed.
fn set_aside(unpacked: &Path, kept: &HashSet<VersionId>) -> io::Result<Vec<PathBuf>> {
    let kept: HashSet<String> = kept.iter().map(VersionId::to_string).collect();
    let entries = match std::fs::read_dir(unpacked) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut gone = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| kept.contains(name)) {
            continue;
        }
        if path.extension().is_some_and(|extension| extension == GONE) {
            gone.push(path);
            continue;
        }
        let aside = path.with_added_extension(GONE);
        // What an interrupted sweep left goes first; then it is this one's turn.
        if !aside.exists() {
            std::fs::rename(&path, &aside)?;
            gone.push(aside);
        }
    }
    Ok(gone)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(Error::internal)?
        .map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_are_kept_stay_where_they_are() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (kept, old) = (VersionId([1; 32]), VersionId([2; 32]));
        let half = format!("{}.half", VersionId([1; 32]));
        for name in [kept.to_string(), old.to_string(), half] {
            std::fs::create_dir(folder.path().join(name)).expect("made");
        }
        let gone = set_aside(folder.path(), &HashSet::from([kept])).expect("renamed");
        assert_eq!(gone.len(), 2, "{gone:?}");
        assert!(gone.iter().all(|path| path.is_dir()));
        assert!(folder.path().join(kept.to_string()).is_dir());
        assert!(!folder.path().join(old.to_string()).exists());
        let again = set_aside(folder.path(), &HashSet::from([kept])).expect("read");
        assert_eq!(
            again.len(),
            2,
            "what an interrupted sweep left is found again"
        );
        let nowhere = set_aside(&folder.path().join("none"), &HashSet::new());
        assert!(nowhere.expect("nothing to do").is_empty());
    }
}
