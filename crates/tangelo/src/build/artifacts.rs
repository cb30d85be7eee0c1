//! Whether the files that a manifest names are there.

use std::path::Path;

use manifest::{Diagnostic, Parsed, Severity};
use model::code;

/// A diagnostic for each file that a workload runs and that is not there; what a builder makes may be missing.
pub(crate) fn missing(
    folder: &Path,
    parsed: &Parsed,
    text: &str,
    file_name: &str,
) -> Vec<Diagnostic> {
    parsed
        .artifacts
        .iter()
        .filter(|artifact| !artifact.built && !folder.join(&artifact.path).exists())
        .map(|artifact| Diagnostic {
            severity: Severity::Error,
            file: file_name.into(),
            code: code::ARTIFACT_MISSING,
            message: format!("`{}` is not there", artifact.path),
            expected: None,
            help: Some(
                "paths are relative to the manifest; `build:` says how it is made".to_owned(),
            ),
            span: artifact.span(text),
        })
        .collect()
}
