//! Artifacts: which files a version is made of, its hash, and its unpacked folder.

use std::{collections::HashSet, path::Path};

use model::{App, BlobHash, Error, Limits, VersionId, Workload, WorkloadName, code};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::{Store, blobs::BlobRef};

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Relative to the manifest, with `/` between its parts.
    pub path: String,
    /// SHA-256 of its bytes.
    pub hash: BlobHash,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it may be executed.
    #[serde(default)]
    pub executable: bool,
}

/// The files of one workload's artifact.
pub type Files = Vec<FileEntry>;

/// Checks what a client sent: paths that stay inside, no path twice, not too much.
pub(super) fn check(workload: &WorkloadName, files: &Files, limits: &Limits) -> Result<(), Error> {
    let wrong = |message: String| {
        Err(Error::new(
            code::UPLOAD_MISSING,
            format!("`{workload}`: {message}"),
        ))
    };
    let mut seen = HashSet::new();
    for file in files {
        if !stays_inside(&file.path) {
            return wrong(format!(
                "`{}` leaves the folder of the manifest",
                file.path.escape_default()
            ));
        }
        if !seen.insert(file.path.as_str()) {
            return wrong(format!("`{}` is there twice", file.path));
        }
    }
    let size: u64 = files.iter().fold(0, |sum, f| sum.saturating_add(f.size));
    if size > limits.artifact.0 {
        let message = format!(
            "`{workload}`: its files are larger than {}",
            limits.artifact
        );
        return Err(Error::new(code::PAYLOAD_TOO_LARGE, message));
    }
    Ok(())
}

/// Whether `path` is relative, has no `..`, and nothing that a file system could read otherwise.
fn stays_inside(path: &str) -> bool {
    let good = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0'])
    };
    !path.is_empty() && path.len() <= 1024 && path.split('/').all(good)
}

/// The hash of everything that makes a version behave as it does.
pub(super) fn version(app: &App, workload: &Workload, files: &Files) -> Result<VersionId, Error> {
    // What a workload reacts to, who owns it and how it was built do not change how it runs.
    let runs = Workload {
        on: Vec::new(),
        owner: None,
        build: None,
        ..workload.clone()
    };
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort();
    let text =
        serde_json::to_vec(&(1, &app.name, &app.hosts, runs, sorted)).map_err(Error::internal)?;
    Ok(VersionId(Sha256::digest(text).into()))
}

/// Makes `folder` hold `files`. The folder appears as a whole: it is filled under another name and renamed.
pub(super) async fn unpack(store: &Store, files: &Files, folder: &Path) -> Result<(), Error> {
    if folder.exists() {
        return Ok(());
    }
    let half = folder.with_extension("half");
    let failed = |e: std::io::Error| Error::internal(format!("{}: {e}", half.display()));
    let _ = tokio::fs::remove_dir_all(&half).await;
    tokio::fs::create_dir_all(&half).await.map_err(failed)?;
    for file in files {
        let path = half.join(&file.path);
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent).await.map_err(failed)?;
        }
        store
            .blobs()
            .copy_out(
                BlobRef {
                    hash: file.hash,
                    size: file.size,
                },
                &path,
            )
            .await
            .map_err(Error::from)?;
        set_executable(&path, file.executable)
            .await
            .map_err(failed)?;
    }
    tokio::fs::rename(&half, folder).await.map_err(failed)
}

#[cfg(unix)]
async fn set_executable(path: &Path, executable: bool) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = if executable { 0o755 } else { 0o644 };
    tokio::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for good in ["a", "functions/auth.wasm", "a/.hidden/..b"] {
            assert!(stays_inside(good), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "./a",
            "a\\b",
            "a/\0",
            &"a/".repeat(600),
        ] {
            assert!(!stays_inside(bad), "{bad:?}");
        }
    }
}
