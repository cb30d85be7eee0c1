//! The temporary folder of an instance (`TMPDIR`) and its limit of size, which is Lambda's own for `/tmp`.
//!
//! No file system enforces it: the folder is measured every few seconds while its instance works, and an instance whose
//! folder is too large is ended. What is deleted but still open is not seen.

use std::{
    convert::Infallible,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use model::{ByteSize, Clock};

use super::instance::Instance;

/// How often the folder of an instance that works is measured.
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// What an entry takes at least: so many empty files are too many, too, and measuring has an end.
const LEAST: u64 = 4 << 10;

/// Measures `folder` while its instance lives, and ends the instance when there is more than `limit` in it.
pub(crate) async fn watch(
    instance: &Arc<Instance>,
    folder: &Path,
    limit: ByteSize,
    clock: &Clock,
) -> Infallible {
    let mut measured = clock.now();
    loop {
        clock.sleep(EVERY).await;
        // Nothing was done since.
        if instance.idle_since().is_some_and(|since| since < measured) {
            continue;
        }
        measured = clock.now();
        let folder = folder.to_owned();
        let is_over = tokio::task::spawn_blocking(move || is_over(folder, limit));
        if is_over.await.unwrap_or(false) {
            instance
                .logs
                .note(format!("TMPDIR holds more than {limit}: killed"));
            instance.overflowed(limit);
            std::future::pending::<()>().await;
        }
    }
}

/// Whether there is more than `limit` below `folder`, as the disk counts it; links are not followed.
fn is_over(folder: PathBuf, limit: ByteSize) -> bool {
    let mut folders = vec![folder];
    let mut total = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(data) = entry.metadata() else { continue };
            total += (data.blocks() * 512).max(LEAST);
            if total > limit.0 {
                return true;
            }
            if data.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_measured_with_all_that_is_below_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let over = |kib| is_over(folder.path().to_owned(), ByteSize::kib(kib));
        assert!(!over(1), "it is empty");
        std::fs::create_dir_all(folder.path().join("a/b")).expect("can be made");
        std::fs::write(folder.path().join("a/b/file"), vec![1; 64 << 10]).expect("can be written");
        assert!(over(63) && !over(256));
        std::os::unix::fs::symlink("/", folder.path().join("all")).expect("can be made");
        assert!(!over(256), "links lead elsewhere");
        for n in 0..100 {
            std::fs::write(folder.path().join(format!("empty {n}")), "").expect("can be written");
        }
        assert!(over(256), "a hundred files are not nothing");
    }
}
