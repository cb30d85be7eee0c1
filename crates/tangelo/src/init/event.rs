//! What `tangelo init --event TYPE` writes: the contract first, then its type, and stubs of who publishes it and who takes it.

use std::path::PathBuf;

use anyhow::{Result, bail};
use model::Name;

/// Paths in the app's folder, and texts in which `{{app}}`, `{{type}}`, `{{noun}}`, `{{module}}` and `{{class}}` stand for names.
const FILES: &[(&str, &str)] = &[
    (".gitignore", include_str!("../templates/gitignore")),
    (
        "tangelo.yaml",
        include_str!("../templates/event/tangelo.yaml"),
    ),
    (
        "contracts/{{type}}/1.json",
        include_str!("../templates/event/contract.json"),
    ),
    (
        "functions/{{module}}.py",
        include_str!("../templates/event/event.py.in"),
    ),
    (
        "functions/producer.py",
        include_str!("../templates/event/producer.py.in"),
    ),
    (
        "functions/consumer.py",
        include_str!("../templates/event/consumer.py.in"),
    ),
];

/// The files of an app whose event this is.
///
/// # Errors
/// When it is no good name of a type, or longer than what is named after it may be.
pub(super) fn files(kind: &str, app: &Name) -> Result<Vec<(PathBuf, String)>> {
    if let Some(problem) = contract::type_problem(kind) {
        bail!("{problem}");
    }
    let noun = noun(kind);
    Name::new(&format!("{noun}-producer"))?;
    let filled = |text: &str| {
        text.replace("{{app}}", app.as_str())
            .replace("{{type}}", kind)
            .replace("{{noun}}", &noun)
            .replace("{{module}}", &kind.replace(['.', '-'], "_"))
            .replace("{{class}}", &class(kind))
    };
    let file = |(path, text): &(&str, &str)| (PathBuf::from(filled(path)), filled(text));
    Ok(FILES.iter().map(file).collect())
}

/// What it happens to, as part of a workload's name: `order` of `order.created`.
pub(super) fn noun(kind: &str) -> String {
    let noun = kind.rsplit_once('.').map_or(kind, |(noun, _)| noun);
    noun.replace('.', "-")
}

/// `OrderCreated` of `order.created`.
fn class(kind: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    };
    kind.split(['.', '-']).map(word).collect()
}
