//! One hash over the inputs of a build: what it runs, and the paths, sizes and times of the files it reads.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use model::{Build, Workload};
use sha2::{Digest, Sha256};

use super::{imports, output, tools, wit};

/// Folders that hold what was made or fetched, not what was written.
const MADE: &[&str] = &[
    ".git",
    ".tangelo",
    ".venv",
    "__pycache__",
    "node_modules",
    "target",
];
/// Most files that are looked at for one workload.
const MAX_FILES: usize = 50_000;

/// The fingerprint of a workload's inputs, those in `found` included.
pub(crate) fn of(
    folder: &Path,
    workload: &Workload,
    build: &Build,
    found: &[String],
) -> io::Result<String> {
    let made = folder.join(output(workload, build));
    let mut files = BTreeSet::new();
    for input in inputs(folder, build)
        .into_iter()
        .chain(found.iter().map(|file| folder.join(file)))
    {
        walk(&input, &made, &mut files)?;
    }
    let mut hash = Sha256::new();
    let spec = serde_json::to_string(build).map_err(io::Error::other)?;
    hash.update(format!(
        "{spec}\n{}\n{}\n{}\n",
        output(workload, build),
        tools::VERSIONS,
        wit::VERSION
    ));
    for file in files {
        hash.update(line(folder, &file));
    }
    Ok(hash
        .finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes all");
            text
        }))
}

/// What the manifest names, and what is always read with it.
fn inputs(folder: &Path, build: &Build) -> Vec<PathBuf> {
    match build {
        Build::Rust { package } => {
            let package = folder.join(package);
            let locks = package.ancestors().map(|above| above.join("Cargo.lock"));
            let lock = locks.into_iter().find(|lock| lock.exists());
            lock.into_iter().chain([package]).collect()
        }
        Build::Js { source } => imports::of(&folder.join(source)).into_iter().collect(),
        Build::Python { source, .. } => vec![folder.join(source)],
        Build::Command { inputs, .. } => inputs.iter().map(|input| folder.join(input)).collect(),
    }
}

fn walk(path: &Path, made: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    if path == made {
        return Ok(());
    }
    if !path.is_dir() {
        files.insert(path.to_owned());
        return Ok(());
    }
    if files.len() > MAX_FILES {
        let message = format!("more than {MAX_FILES} files below {}", path.display());
        return Err(io::Error::other(message));
    }
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if !MADE.iter().any(|made| entry.file_name() == *made) && !entry.file_type()?.is_symlink() {
            walk(&entry.path(), made, files)?;
        }
    }
    Ok(())
}

/// A file that is gone counts as such.
fn line(folder: &Path, path: &Path) -> String {
    let seen = path.metadata().ok().map(|seen| {
        let changed = seen
            .modified()
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        (seen.len(), changed.map(|at| at.as_nanos()))
    });
    format!(
        "{}\0{seen:?}\n",
        path.strip_prefix(folder).unwrap_or(path).display()
    )
}
