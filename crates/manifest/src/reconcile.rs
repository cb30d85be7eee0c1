//! `reconcile`: what is to be the same in two places.

use std::time::Duration;

use model::{
    Name,
    reconcile::{Reconciliation, Source},
};

use crate::{
    places::{Draft, ReconciliationPlaces},
    reader::{Fields, Reader},
    tree::{Bytes, Node},
};

/// Keys of a reconciliation.
pub(crate) const KEYS: &[&str] = &[
    "every", "after", "key", "compare", "left", "right", "repair",
];
/// Keys of a source.
pub(crate) const SOURCE_KEYS: &[&str] = &["query", "workload", "projection"];
/// Keys of `query`.
pub(crate) const QUERY_KEYS: &[&str] = &["database", "sql"];
/// Keys of `workload`.
pub(crate) const WORKLOAD_KEYS: &[&str] = &["name", "path"];
/// Keys of `projection`.
pub(crate) const PROJECTION_KEYS: &[&str] = &["workload", "name", "path"];

const DAY: Duration = Duration::from_secs(86_400);
const LONGEST: usize = 16 << 10;

pub(crate) fn read(reader: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    for (key, node) in reader.entries(node, "reconciliations by name") {
        let name = reader.name(key.at, &key.text);
        let mut places = ReconciliationPlaces::default();
        let read = read_one(reader, key.at, node, &mut places);
        if let (Some(name), Some(read)) = (name, read) {
            draft.app.reconcile.insert(name.clone(), read);
            draft.reconcile.insert(name, places);
        }
    }
}

fn read_one(
    reader: &mut Reader<'_>,
    at: Bytes,
    node: &Node,
    places: &mut ReconciliationPlaces,
) -> Option<Reconciliation> {
    let fields = reader.fields(node, at, KEYS)?;
    let every = fields
        .required(reader, "every", "every: 5m")
        .and_then(|node| reader.duration(node, Duration::from_secs(1), DAY * 7));
    let after = fields
        .get("after")
        .and_then(|node| reader.duration(node, Duration::ZERO, DAY));
    let key = fields
        .required(reader, "key", "key: id")
        .and_then(|node| reader.string(node, "the name of a column"));
    let compare = fields.get("compare").map_or_else(Vec::new, |node| {
        let columns = reader.strings(node, "columns");
        columns.into_iter().map(|column| column.value).collect()
    });
    let left = read_source(reader, fields, "left", &mut places.left);
    let right = read_source(reader, fields, "right", &mut places.right);
    let repair = match fields.get("repair") {
        None => None,
        Some(node) => {
            places.repair = node.at;
            let text = reader.string(node, "the name of a workload")?;
            Some(reader.name(node.at, &text)?)
        }
    };
    Some(Reconciliation {
        every: every?,
        after: after.unwrap_or_default(),
        key: key?,
        compare,
        left: left?,
        right: right?,
        repair,
    })
}

fn read_source(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    side: &str,
    place: &mut Bytes,
) -> Option<Source> {
    let example = format!("{side}: {{workload: {{name: warehouse, path: /stock}}}}");
    let node = fields.required(reader, side, &example)?;
    let source = reader.fields(node, node.at, SOURCE_KEYS)?;
    *place = node.at;
    let ways = SOURCE_KEYS.iter().map(|key| source.get(key));
    match ways.collect::<Vec<_>>()[..] {
        [Some(node), None, None] => {
            let fields = reader.fields(node, node.at, QUERY_KEYS)?;
            let database = name(reader, fields, "database", "database: orders", place)?;
            let node = fields.required(reader, "sql", "sql: SELECT id, total FROM orders")?;
            let sql = reader.string(node, "a statement")?;
            if sql.len() > LONGEST {
                reader.error(node.at, "a statement is at most 16 KiB");
            }
            Some(Source::Query { database, sql })
        }
        [None, Some(node), None] => {
            let fields = reader.fields(node, node.at, WORKLOAD_KEYS)?;
            let name = name(reader, fields, "name", "name: warehouse", place)?;
            let path = path(reader, fields)?;
            Some(Source::Workload { name, path })
        }
        [None, None, Some(node)] => {
            let fields = reader.fields(node, node.at, PROJECTION_KEYS)?;
            let workload = name(reader, fields, "workload", "workload: search", place)?;
            let name = name(reader, fields, "name", "name: orders", place)?;
            let path = path(reader, fields)?;
            Some(Source::Projection {
                workload,
                name,
                path,
            })
        }
        _ => {
            reader
                .error(
                    node.at,
                    "rows come from a `query`, a `workload` or a `projection`: one of them",
                )
                .help("for example `query: {database: orders, sql: SELECT id, total FROM orders}`");
            None
        }
    }
}

fn path(reader: &mut Reader<'_>, fields: Fields<'_>) -> Option<String> {
    let node = fields.required(reader, "path", "path: /stock")?;
    let path = reader.string(node, "a path")?;
    let sound = path.starts_with('/')
        && path.len() <= 1024
        && path.bytes().all(|byte| byte.is_ascii_graphic());
    if !sound {
        reader
            .error(node.at, "expected a path that begins with `/`")
            .help("for example `/stock?limit=1000`");
    }
    Some(path)
}

fn name(
    reader: &mut Reader<'_>,
    fields: Fields<'_>,
    key: &str,
    example: &str,
    place: &mut Bytes,
) -> Option<Name> {
    let node = fields.required(reader, key, example)?;
    *place = node.at;
    let text = reader.string(node, "a name")?;
    reader.name(node.at, &text)
}

/// Checks that what reconciliations name is there.
pub(crate) fn check(reader: &mut Reader<'_>, draft: &Draft) {
    for (name, what) in &draft.app.reconcile {
        let places = &draft.reconcile[name];
        for (source, at) in [(&what.left, places.left), (&what.right, places.right)] {
            match source {
                Source::Workload { name, .. } => workload(reader, draft, at, name),
                Source::Projection { workload, name, .. } => {
                    projection(reader, draft, at, (workload, name));
                }
                Source::Query { database, .. } => {
                    if !draft.app.databases.contains_key(database) {
                        let known = draft.app.databases.keys().map(Name::as_str);
                        let message = format!("there is no database `{database}`");
                        reader.unknown_word(at, message, database.as_str(), known);
                    }
                }
            }
        }
        if let Some(repair) = &what.repair {
            workload(reader, draft, places.repair, repair);
        }
    }
}

fn projection(reader: &mut Reader<'_>, draft: &Draft, at: Bytes, (keeper, name): (&Name, &Name)) {
    let Some(found) = draft.app.workloads.get(keeper) else {
        workload(reader, draft, at, keeper);
        return;
    };
    let known = found.on.iter().filter(|one| one.projection.is_some());
    let known: Vec<&str> = known.map(|one| one.name.as_str()).collect();
    if known.contains(&name.as_str()) {
        return;
    }
    let message = format!("workload `{keeper}` has no projection `{name}`");
    if known.is_empty() {
        reader
            .error(at, message)
            .help("a projection is an entry of `on` with a `name` and `projection: {}`");
    } else {
        reader.unknown_word(at, message, name.as_str(), known.into_iter());
    }
}

fn workload(reader: &mut Reader<'_>, draft: &Draft, at: Bytes, name: &Name) {
    if !draft
        .declared
        .iter()
        .any(|declared| declared == name.as_str())
    {
        let known = draft.declared.iter().map(String::as_str);
        let message = format!("there is no workload `{name}`");
        reader.unknown_word(at, message, name.as_str(), known);
    }
}

#[cfg(test)]
mod tests {
    use model::{Limits, Name, reconcile::Source};

    fn parsed(reconcile: &str) -> crate::Parsed {
        let text = format!(
            "app: one\nworkloads:\n  it: {{as: service, run: {{process: {{command: [./a]}}}}, on: [{{event: {{type: [a.b]}}, name: rows, projection: {{}}}}]}}\n\
             \x20 other: {{as: service, run: {{process: {{command: [./a]}}}}}}\n\
             databases: {{db: {{sqlite: {{file: /a.db}}}}}}\nreconcile: {reconcile}\n"
        );
        crate::parse(&text, "tangelo.yaml", &Limits::default())
    }

    const QUERY: &str = "{query: {database: db, sql: SELECT 1}}";
    const WORKLOAD: &str = "{workload: {name: it, path: /rows}}";

    #[test]
    fn reconciliations_are_read() {
        let text = format!(
            "{{stock: {{every: 5m, after: 10s, key: sku, compare: [n], left: {QUERY}, right: {WORKLOAD}, repair: it}}}}"
        );
        let app = parsed(&text).app.expect("is one");
        let stock = &app.reconcile[&Name::literal("stock")];
        assert_eq!((stock.every.as_secs(), stock.after.as_secs()), (300, 10));
        assert_eq!(
            (stock.key.as_str(), stock.compare.as_slice()),
            ("sku", &["n".to_owned()][..])
        );
        assert_eq!(stock.repair, Some(Name::literal("it")));
        let text = format!(
            "{{stock: {{every: 5m, key: sku, left: {QUERY}, right: {{projection: {{workload: it, name: rows, path: /rows}}}}}}}}"
        );
        let read = parsed(&text);
        let app = read.app.unwrap_or_else(|| panic!("{:?}", read.diagnostics));
        let expected = Source::Projection {
            workload: Name::literal("it"),
            name: Name::literal("rows"),
            path: "/rows".to_owned(),
        };
        assert_eq!(app.reconcile[&Name::literal("stock")].right, expected);
    }

    #[test]
    fn mistakes_are_named() {
        let sides = format!("left: {QUERY}, right: {WORKLOAD}");
        for (what, told) in [
            (format!("{{key: k, {sides}}}"), "`every` is missing"),
            (format!("{{every: 5m, {sides}}}"), "`key` is missing"),
            (
                format!("{{every: 1ms, key: k, {sides}}}"),
                "`1ms` is out of range",
            ),
            (
                format!("{{every: 5m, key: k, left: {QUERY}}}"),
                "`right` is missing",
            ),
            (
                format!("{{every: 5m, key: k, {sides}, repair: its}}"),
                "there is no workload `its`",
            ),
            (
                format!("{{every: 5m, key: k, {sides}, repairs: it}}"),
                "unknown key `repairs`",
            ),
            (
                format!("{{every: 5m, key: k, left: {{}}, right: {QUERY}}}"),
                "rows come from a `query`, a `workload` or a `projection`: one of them",
            ),
            (
                format!(
                    "{{every: 5m, key: k, left: {{query: {{database: dbs, sql: x}}}}, right: {QUERY}}}"
                ),
                "there is no database `dbs`",
            ),
            (
                format!(
                    "{{every: 5m, key: k, left: {{workload: {{name: it, path: rows}}}}, right: {QUERY}}}"
                ),
                "expected a path that begins with `/`",
            ),
            (
                format!(
                    "{{every: 5m, key: k, left: {{projection: {{workload: it, name: row, path: /rows}}}}, right: {QUERY}}}"
                ),
                "workload `it` has no projection `row`",
            ),
            (
                format!(
                    "{{every: 5m, key: k, left: {{projection: {{workload: other, name: rows, path: /rows}}}}, right: {QUERY}}}"
                ),
                "workload `other` has no projection `rows`",
            ),
            (
                format!(
                    "{{every: 5m, key: k, left: {{projection: {{workload: its, name: rows, path: /rows}}}}, right: {QUERY}}}"
                ),
                "there is no workload `its`",
            ),
            (
                format!(
                    "{{every: 5m, key: k, left: {{projection: {{workload: it, path: /rows}}}}, right: {QUERY}}}"
                ),
                "`name` is missing",
            ),
            (
                format!(
                    "{{every: 5m, key: k, left: {{projection: {{workload: it, name: rows, path: /rows}}, query: {{}}}}, right: {QUERY}}}"
                ),
                "rows come from a `query`, a `workload` or a `projection`: one of them",
            ),
        ] {
            let noted = parsed(&format!("{{stock: {what}}}")).diagnostics;
            let all: Vec<_> = noted.into_iter().map(|d| d.message).collect();
            assert!(all.iter().any(|one| one == told), "{what}: {all:?}");
        }
    }
}
