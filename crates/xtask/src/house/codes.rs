//! Every error code of `model::code` has a page under `docs/errors/`, and every page a code.

use std::collections::BTreeSet;

use super::Report;
use crate::workspace::Workspace;

const TABLE: &str = "crates/model/src/code.rs";

/// Compares the table with the pages.
pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    let table = std::fs::read_to_string(workspace.root.join(TABLE)).unwrap_or_default();
    let codes = codes(&table);
    let pages: BTreeSet<String> = workspace
        .files("docs/errors")
        .iter()
        .filter_map(|path| path.file_stem()?.to_str().map(str::to_owned))
        .filter(|name| name.starts_with("TG"))
        .collect();
    report.figure("error codes", codes.len());
    if codes.is_empty() {
        report.fail("error pages", TABLE, None, "no codes found in the table");
    }
    for code in codes.difference(&pages) {
        let problem = format!("{code} has no page docs/errors/{code}.md");
        report.fail("error pages", TABLE, None, problem);
    }
    for page in pages.difference(&codes) {
        let file = format!("docs/errors/{page}.md");
        report.fail("error pages", file, None, "no code of this number exists");
    }
}

/// The codes in lines such as `NO_ROUTE = 201, NotFound;`.
fn codes(table: &str) -> BTreeSet<String> {
    table
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.trim().split_once(" = ")?;
            let (number, category) = rest.split_once(", ")?;
            let upper = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            (upper && category.ends_with(';')).then_some(number)
        })
        .filter_map(|number| number.parse::<u16>().ok())
        .map(|number| format!("TG{number:04}"))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn finds_the_lines_of_the_table() {
        let table = "    /// No route.\n    NO_ROUTE = 201, NotFound;\n    let x = 3, y;\n";
        assert_eq!(
            super::codes(table).into_iter().collect::<Vec<_>>(),
            ["TG0201"]
        );
    }
}
