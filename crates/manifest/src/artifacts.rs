//! The files that workloads run, for callers that can look whether they are there.

use model::WorkloadName;

use crate::{diagnostic::Span, places::Draft, tree::Bytes};

/// A file or folder that a workload runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The workload.
    pub workload: WorkloadName,
    /// Its path, relative to the manifest.
    pub path: String,
    /// Whether a builder makes it, so that it may be absent before the first build.
    pub built: bool,
    /// Bytes of the manifest that name it.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Artifact {
    /// Where the manifest `text` names it.
    #[must_use]
    pub fn span(&self, text: &str) -> Span {
        Span::of(text, self.start, self.end)
    }
}

pub(crate) fn list(draft: &Draft) -> Vec<Artifact> {
    let of = |name: &WorkloadName, (path, Bytes { start, end }): &(String, Bytes)| Artifact {
        workload: name.clone(),
        path: path.clone(),
        built: draft
            .app
            .workloads
            .get(name)
            .is_some_and(|workload| workload.build.is_some()),
        start: *start,
        end: *end,
    };
    draft
        .workloads
        .iter()
        .flat_map(|(name, places)| places.files.iter().map(move |file| of(name, file)))
        .collect()
}
