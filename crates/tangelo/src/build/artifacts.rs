//! Whether the files that a manifest names are there, and the modules that its handlers name.

use std::path::{Path, PathBuf};

use manifest::{Diagnostic, Handler, Parsed, Severity, Span};
use model::{Reuse, Run, code};

/// When it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// What a builder makes may be missing.
    BeforeBuild,
    /// Everything must be there.
    Built,
}

/// A diagnostic for each file that a workload runs and that is not there.
pub(crate) fn missing(
    folder: &Path,
    parsed: &Parsed,
    text: &str,
    file_name: &str,
    look: Look,
) -> Vec<Diagnostic> {
    let missing = |message: String, help: String, span: Span| Diagnostic {
        severity: Severity::Error,
        file: file_name.into(),
        code: code::ARTIFACT_MISSING,
        message,
        expected: None,
        help: Some(help),
        span,
    };
    let wanted = |built: bool| look == Look::Built || !built;
    let artifacts = parsed.artifacts.iter();
    let artifacts = artifacts
        .filter(|artifact| wanted(artifact.built) && !folder.join(&artifact.path).exists())
        .map(|artifact| {
            let help = if artifact.built {
                "`tangelo build` makes it"
            } else {
                "paths are relative to the manifest; `build:` says how it is made"
            };
            let message = format!("`{}` is not there", artifact.path);
            missing(message, help.to_owned(), artifact.span(text))
        });
    let handlers = parsed.handlers.iter();
    let handlers = handlers
        .filter(|handler| wanted(handler.built))
        .filter_map(|handler| {
            let (message, help, meant) = module(folder, handler)?;
            let expected = meant.map(|meant| format!("did you mean `{meant}`?"));
            let told = missing(message, help, handler.span(text));
            Some(Diagnostic { expected, ..told })
        });
    artifacts.chain(handlers).collect()
}

/// A diagnostic for each component that is there and whose instances cannot serve several requests at the same time,
/// though its workload says so.
pub(crate) fn not_concurrent(
    folder: &Path,
    parsed: &Parsed,
    text: &str,
    file_name: &str,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for workload in parsed.app.iter().flat_map(|app| app.workloads.values()) {
        let Run::Wasm {
            component,
            reuse: Some(Reuse {
                concurrent: 2.., ..
            }),
        } = &workload.run
        else {
            continue;
        };
        let bytes = std::fs::read(folder.join(component)).unwrap_or_default();
        let mut named = parsed.artifacts.iter();
        let named = named.find(|artifact| artifact.workload == workload.name);
        if let (Some(error), Some(artifact)) = (runtime::wasm::not_concurrent(&bytes), named) {
            found.push(Diagnostic {
                severity: Severity::Error,
                file: file_name.into(),
                code: error.code,
                message: error.message,
                expected: None,
                help: Some(
                    "leave `concurrent` out, or build the component for WASI 0.3".to_owned(),
                ),
                span: artifact.span(text),
            });
        }
    }
    found
}

/// What to say when the module of a handler is not in its code: message, help, and the handler that was likely meant.
fn module(folder: &Path, handler: &Handler) -> Option<(String, String, Option<String>)> {
    let named = folder.join(&handler.code);
    let code = if named.is_dir() {
        named
    } else {
        // Without its code that is told, and not this; a single file is a folder with nothing else.
        let parent = named.parent().map(PathBuf::from);
        parent.filter(|_| named.is_file())?
    };
    if handler.files.iter().any(|file| code.join(file).exists()) {
        return None;
    }
    let looked_for = handler.files.first()?;
    let endings: Vec<_> = handler
        .files
        .iter()
        .filter_map(|file| Path::new(file).extension())
        .collect();
    let place = code.join(looked_for);
    let modules: Vec<String> = std::fs::read_dir(place.parent()?)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            Path::new(name)
                .extension()
                .is_some_and(|extension| endings.contains(&extension))
        })
        .collect();
    let message = format!(
        "`{looked_for}` is not in `{}`, for the handler `{}` of `{}`",
        handler.code, handler.handler, handler.workload
    );
    Some((
        message,
        there(modules.clone()),
        meant(looked_for, &modules, handler),
    ))
}

/// What is there instead, in a line.
fn there(mut modules: Vec<String>) -> String {
    modules.sort();
    modules.truncate(8);
    match modules.as_slice() {
        [] => "no module is there; a handler is `file.function`".to_owned(),
        modules => format!(
            "a handler is `file.function`; there is `{}`",
            modules.join("`, `")
        ),
    }
}

/// The same handler in the nearest of `modules`, or in the only one.
fn meant(looked_for: &str, modules: &[String], handler: &Handler) -> Option<String> {
    let stem = |file: &str| Path::new(file).file_stem()?.to_str().map(str::to_owned);
    let wrong = stem(looked_for)?;
    let stems: Vec<String> = modules.iter().filter_map(|module| stem(module)).collect();
    let meant = match stems.as_slice() {
        [only] => Some(only.as_str()),
        all => manifest::nearest(&wrong, all.iter().map(String::as_str)),
    }?;
    let at = handler.handler.rfind(&format!("{wrong}."))?;
    let (before, rest) = handler.handler.split_at(at);
    Some(format!("{before}{meant}{}", &rest[wrong.len()..]))
}
