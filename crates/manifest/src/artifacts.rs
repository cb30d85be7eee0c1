//! The files that workloads run, for callers that can look whether they are there.

use model::{Run, WorkloadName, app::LambdaRuntime};

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

/// Where the code of a Lambda handler must have the module that the handler names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// The workload.
    pub workload: WorkloadName,
    /// `file.function`.
    pub handler: String,
    /// The path of the code, relative to the manifest: a folder, or a file of one.
    pub code: String,
    /// Paths below the code's folder: one of them must be there. The first is the one to name.
    pub files: Vec<String>,
    /// Whether a builder makes the code.
    pub built: bool,
    at: Bytes,
}

impl Handler {
    /// Where the manifest `text` names it.
    #[must_use]
    pub fn span(&self, text: &str) -> Span {
        Span::of(text, self.at.start, self.at.end)
    }
}

/// The handlers whose modules can be looked for: not those of `provided`, and not where the environment names further
/// folders of modules.
pub(crate) fn handlers(draft: &Draft) -> Vec<Handler> {
    let workloads = draft.app.workloads.values();
    let handlers = workloads.filter_map(|workload| {
        let Run::Lambda {
            runtime,
            handler,
            code,
            ..
        } = &workload.run
        else {
            return None;
        };
        let (files, folders) = match runtime {
            LambdaRuntime::Python3 => (python(handler)?, "PYTHONPATH"),
            LambdaRuntime::Nodejs => (nodejs(handler)?, "NODE_PATH"),
            LambdaRuntime::Provided => return None,
        };
        if workload.env.contains_key(folders) {
            return None;
        }
        Some(Handler {
            workload: workload.name.clone(),
            handler: handler.clone(),
            code: code.clone(),
            files,
            built: workload.build.is_some(),
            at: draft.workloads.get(&workload.name)?.handler,
        })
    });
    handlers.collect()
}

/// `a/b.function` and `a.b.function` are of the module `a.b`.
fn python(handler: &str) -> Option<Vec<String>> {
    let (module, _) = handler.rsplit_once('.')?;
    let path = module.replace('.', "/");
    let ways = [".py", "/__init__.py", ".pyc", ".so"];
    Some(ways.map(|way| format!("{path}{way}")).into())
}

/// `a/b.function` and `a/b.object.function` are of the module `a/b`.
fn nodejs(handler: &str) -> Option<Vec<String>> {
    let name = handler.rfind('/').map_or(0, |slash| slash + 1);
    let path = &handler[..name + handler[name..].find('.')?];
    let own = [".js", ".mjs", ".cjs", ""].map(|way| format!("{path}{way}"));
    let package = format!("node_modules/{path}");
    Some(own.into_iter().chain([package]).collect())
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
