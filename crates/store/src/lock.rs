//! `DIR/lock`: held for the life of a server, so that two never share a data folder, and so that holding it
//! proves that every earlier boot of this folder is dead.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
    sync::Arc,
};

use crate::{
    blobs::files::{Disk, Layer},
    error::{Error, Result},
};

/// The lock of a data folder. Freed when the last clone is dropped, or by the kernel when the process ends, however
/// it ends.
#[derive(Clone)]
pub struct FolderLock(
    #[expect(dead_code, reason = "open for as long as the locks are held")] Arc<[File]>,
);

impl FolderLock {
    /// Makes the folder where it is missing, and takes its lock. Nothing of an earlier server may be touched before.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process (or another store of this one) holds it.
    pub fn take(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            make_folder(dir).map_err(Error::io(dir))?;
            keep_to_oneself(dir).map_err(Error::io(dir))?;
        }
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(Error::io(&path)(source)),
        }
        let mut held = vec![file];
        // The file may be taken away, and another made; the folder itself is what it is about, where it can be locked.
        if let Ok(folder) = File::open(dir) {
            match folder.try_lock() {
                Ok(()) => held.push(folder),
                Err(TryLockError::WouldBlock) => return Err(Error::Locked(dir.to_owned())),
                Err(TryLockError::Error(_)) => {}
            }
        }
        Ok(Self(held.into()))
    }
}

/// What requests and events carry is for nobody else on the machine. A folder that was there keeps its mode: somebody
/// chose it.
fn keep_to_oneself(dir: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Makes a folder and what is missing above it, each durably: a data folder that a power loss takes away takes what
/// was acknowledged with it.
pub(crate) fn make_folder(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    make_folder(parent)?;
    Disk.create_folder(path)?;
    Disk.sync_folder(parent)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stays_locked_when_the_file_is_taken_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = FolderLock::take(folder.path()).expect("takes it");
        std::fs::remove_file(folder.path().join("lock")).expect("removes it");
        let second = FolderLock::take(folder.path());
        assert!(matches!(second, Err(Error::Locked(_))));
        drop(lock);
        assert!(FolderLock::take(folder.path()).is_ok());
    }
}
