//! What a workload was last built from: a small JSON file in `.tangelo/build/`, safe to delete.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use model::WorkloadName;
use serde::{Deserialize, Serialize};

/// What is noted after a build that went well.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Of all inputs, as they were before the build.
    pub(crate) fingerprint: String,
    /// Inputs that the builder found, outside of those that the manifest names.
    pub(crate) found: Vec<String>,
}

impl Record {
    pub(crate) fn path(folder: &Path, workload: &WorkloadName) -> PathBuf {
        folder
            .join(".tangelo/build")
            .join(format!("{workload}.json"))
    }

    /// The record at `path`; one that cannot be read is none, and the workload is built again.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let folder = path.parent().context("a record is in a folder")?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let text = serde_json::to_vec(self)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}
