//! What a deploy uploads: the files of each workload's artifact, found beside the manifest and named by their hash.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use model::{App, BlobHash, Run, WorkloadName};
use platform::deploy::{FileEntry, Files};
use sha2::{Digest, Sha256};

/// Folders that are never part of an artifact.
const SKIPPED: &[&str] = &[".git", ".tangelo", "__pycache__", "target", ".venv"];

/// The artifacts of an app, and where each file is on this machine.
pub(crate) struct Artifacts {
    pub(crate) files: BTreeMap<WorkloadName, Files>,
    pub(crate) sources: BTreeMap<BlobHash, PathBuf>,
}

/// Reads and hashes everything that `app` is made of, below `folder`.
pub(crate) fn collect(folder: &Path, app: &App) -> Result<Artifacts> {
    let mut artifacts = Artifacts {
        files: BTreeMap::new(),
        sources: BTreeMap::new(),
    };
    for (name, workload) in &app.workloads {
        let mut files = Files::new();
        for path in roots(folder, &workload.run) {
            gather(folder, &path, &mut files, &mut artifacts.sources)
                .with_context(|| format!("workload `{name}`: `{path}` [TG0103]"))?;
        }
        if !files.is_empty() {
            files.sort();
            files.dedup();
            artifacts.files.insert(name.clone(), files);
        }
    }
    Ok(artifacts)
}

/// What a workload names, relative to the manifest.
fn roots(folder: &Path, run: &Run) -> Vec<String> {
    match run {
        Run::Wasm { component } => vec![component.clone()],
        Run::Lambda { code, .. } => vec![code.clone()],
        Run::Process { command, files } => {
            // `./x` is ours; `x.py` is too when it is there; everything else is found on PATH.
            let ours = command
                .iter()
                .filter(|word| word.starts_with("./") || folder.join(word).is_file());
            ours.map(|word| word.trim_start_matches("./").to_owned())
                .chain(files.iter().cloned())
                .collect()
        }
        Run::External { .. } => Vec::new(),
    }
}

fn gather(
    folder: &Path,
    path: &str,
    files: &mut Files,
    sources: &mut BTreeMap<BlobHash, PathBuf>,
) -> Result<()> {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    let full = folder.join(path);
    let data = std::fs::metadata(&full).context("is not there: was it built?")?;
    if !data.is_dir() {
        let bytes = std::fs::read(&full)?;
        let hash = BlobHash(Sha256::digest(&bytes).into());
        files.push(FileEntry {
            path: path.to_owned(),
            hash,
            size: bytes.len() as u64,
            executable: is_executable(&data),
        });
        sources.insert(hash, full);
        return Ok(());
    }
    for entry in std::fs::read_dir(&full)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else {
            bail!("holds a file whose name is not UTF-8")
        };
        if SKIPPED.contains(&name) {
            continue;
        }
        let child = if path.is_empty() || path == "." {
            name.to_owned()
        } else {
            format!("{path}/{name}")
        };
        gather(folder, &child, files, sources)?;
    }
    Ok(())
}

#[cfg(unix)]
fn is_executable(data: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    data.permissions().mode() & 0o111 != 0
}
