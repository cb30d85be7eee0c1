//! `tangelo.yaml` → [`model::App`], with diagnostics that point at their place, and the JSON Schema of the file.
//!
//! Pure: reads a text, never a file. The YAML becomes a tree with spans, which readers turn into the model; each
//! mistake is noted and reading goes on, so that all are reported together. An app comes out only without errors.

mod app;
mod artifacts;
mod bridges;
mod chains;
mod checks;
mod container;
mod databases;
mod deferred;
mod diagnostic;
mod health;
mod keys;
#[doc(hidden)]
pub mod law;
mod nearest;
mod outside;
mod paths;
mod places;
mod reader;
mod reconcile;
mod render;
mod retention;
mod routes;
mod run;
mod scalars;
mod scale;
mod schema;
mod state;
mod subscriptions;
mod terms;
mod tree;
mod workload;

use model::{App, Limits};

pub use artifacts::{Artifact, Handler};
pub use checks::{OF_THE_PLATFORM, may_meet};
pub use diagnostic::{Diagnostic, MAX_DIAGNOSTICS, Severity, Span};
pub use nearest::nearest;
pub use render::{render, render_colored};
pub use routes::shape;
pub use schema::schema;
pub use subscriptions::types;

/// The name of the file, unless said otherwise.
pub const FILE_NAME: &str = "tangelo.yaml";

/// What a manifest came to.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The app; `None` when there is any error.
    pub app: Option<App>,
    /// Mistakes and warnings in the order of the file, [`MAX_DIAGNOSTICS`] at most.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that the workloads run, with where the manifest names them: whether they exist is for the caller to see.
    pub artifacts: Vec<Artifact>,
    /// The modules that handlers name, likewise; none when there is any error.
    pub handlers: Vec<Handler>,
}

impl Parsed {
    /// Whether there is any error (warnings are none).
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Reads a manifest. Diagnostics name the file `file_name`; `limits` bound its size, its depth and what it may ask for.
#[must_use]
pub fn parse(text: &str, file_name: &str, limits: &Limits) -> Parsed {
    let mut reader = reader::Reader::new(text, file_name, *limits);
    let draft = tree::parse(&mut reader).map(|root| app::read(&mut reader, &root));
    let artifacts = draft.as_ref().map_or_else(Vec::new, artifacts::list);
    if let Some(draft) = &draft {
        checks::check(&mut reader, draft);
        chains::check(&mut reader, draft);
        databases::check(&mut reader, draft);
        reconcile::check(&mut reader, draft);
    }
    let diagnostics = reader.finish();
    let sound = !diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error);
    let handlers = draft.as_ref().filter(|_| sound).map(artifacts::handlers);
    Parsed {
        handlers: handlers.unwrap_or_default(),
        app: draft.filter(|_| sound).map(|draft| draft.app),
        diagnostics,
        artifacts,
    }
}
