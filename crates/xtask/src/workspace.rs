//! Where things are: the workspace as cargo describes it, without asking the network.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, bail};
use serde::Deserialize;

/// The workspace that this program was built from.
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
    /// Its packages.
    pub(crate) packages: Vec<Package>,
}

/// A package of the workspace.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) description: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// What a package says that it needs.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None`: normal; else `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// Set for packages of the same workspace.
    pub(crate) path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Workspace {
    /// Asks cargo about the workspace of the current folder.
    pub(crate) fn here() -> anyhow::Result<Self> {
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .context("cargo does not start")?;
        if !output.status.success() {
            bail!(
                "cargo metadata failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            packages: metadata.packages,
        })
    }

    /// Has everything of ours built anew when another checkout used the target folder last. Test programs know their files
    /// by the path of the checkout that they were built in (`CARGO_MANIFEST_DIR`), and cargo, which takes that for a
    /// constant, would hand out those of the other one as long as they are newer than the sources here.
    pub(crate) fn take_target(&self) -> anyhow::Result<()> {
        let note = self.target.join("checkout");
        let here = self.root.as_os_str().as_encoded_bytes();
        if fs::read(&note).is_ok_and(|last| last == here) {
            return Ok(());
        }
        let now = SystemTime::now();
        let sources = self.files("crates").into_iter();
        for source in sources.filter(|path| path.extension().is_some_and(|kind| kind == "rs")) {
            let file = fs::OpenOptions::new().append(true).open(&source);
            let touched = file.and_then(|file| file.set_modified(now));
            touched.with_context(|| format!("{} cannot be touched", source.display()))?;
        }
        fs::create_dir_all(&self.target)?;
        fs::write(note, here).context("the target folder cannot be written")
    }

    /// Where installed tools are, so that they go with `cargo clean`.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// `path` as people write it: relative to the root.
    pub(crate) fn short<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// All files below `folder` (relative to the root) that are ours: nothing hidden, installed or built.
    pub(crate) fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.root.join(folder), &mut found);
        found.sort();
        found
    }
}

/// The cargo that runs this, or the one on the path.
pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // A module may be called `build`, too.
        let output = name == "build" && !folder.ends_with("src");
        let skipped = name.starts_with('.')
            || output
            || matches!(&*name, "target" | "node_modules" | "__pycache__");
        match entry.file_type() {
            _ if skipped => {}
            Ok(kind) if kind.is_dir() => walk(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}
