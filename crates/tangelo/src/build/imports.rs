//! The files that a JavaScript module is made of: itself, and what it names by a relative path, and so on.
//!
//! Not a parser: every quoted text that begins with `./` or `../` and names a file counts. One too many costs a build too
//! many; componentize-js itself decides what is an import.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Largest source that is looked into.
const MAX_SOURCE: u64 = 4 << 20;
/// Most files of one module.
const MAX_FILES: usize = 5_000;

/// `source` and the files it is made of.
pub(crate) fn of(source: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    let mut waiting = vec![source.to_owned()];
    while let Some(file) = waiting.pop() {
        let file = file.canonicalize().unwrap_or(file);
        if files.len() >= MAX_FILES || !files.insert(file.clone()) {
            continue;
        }
        let small = file.metadata().is_ok_and(|seen| seen.len() <= MAX_SOURCE);
        let Some(text) = small.then(|| std::fs::read_to_string(&file).ok()).flatten() else {
            continue;
        };
        let folder = file.parent().unwrap_or_else(|| Path::new("."));
        waiting.extend(
            relative(&text)
                .map(|path| folder.join(path))
                .filter(|path| path.is_file()),
        );
    }
    files
}

fn relative(text: &str) -> impl Iterator<Item = &str> {
    text.split(['"', '\'', '`'])
        .filter(|part| part.starts_with("./") || part.starts_with("../"))
        .filter(|part| part.len() < 512 && !part.contains('\n'))
}
