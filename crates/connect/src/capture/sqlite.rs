//! Triggers of a SQLite file: each insert, update and delete of a captured table writes a row of the shape of an outbox, in the app's own
//! transaction, with the row before and after as JSON.

use std::path::Path;

use rusqlite::Connection as Db;

use super::{CHANGES, TableStatus};
use crate::{Error, init, sqlite::Connection};

/// Triggers are named after this, the table and the change.
const PREFIX: &str = "tangelo_capture_";

/// The three changes: the trigger's verb, the event's word, what is before and after.
const CHANGES_OF_ROWS: [(&str, &str, bool, bool); 3] = [
    ("INSERT", "inserted", false, true),
    ("UPDATE", "updated", true, true),
    ("DELETE", "deleted", true, false),
];

pub(super) fn init(file: &Path, tables: &[String]) -> Result<Vec<TableStatus>, Error> {
    let mut connection = Connection::open(file)?;
    let outbox = init::outbox(init::Dialect::Sqlite, CHANGES);
    let tables = tables.to_vec();
    connection.run_mut(move |db| {
        // The statement that says the file's mode runs outside of transactions.
        db.execute_batch(&outbox)?;
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for name in triggers(&transaction)?.into_iter().map(|(name, _)| name) {
            transaction.execute_batch(&format!("DROP TRIGGER {}", quoted(&name)))?;
        }
        for table in &tables {
            for text in statements(&transaction, table)?.into_iter().flatten() {
                transaction.execute_batch(&text.1)?;
            }
        }
        let found = look(&transaction, &tables)?;
        transaction.commit()?;
        Ok(found)
    })
}

pub(super) fn status(file: &Path, tables: &[String]) -> Result<Vec<TableStatus>, Error> {
    Connection::open(file)?.run(|db| look(db, tables))
}

pub(super) fn drop(file: &Path) -> Result<u64, Error> {
    Connection::open(file)?.run_mut(|db| {
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for (name, _) in triggers(&transaction)? {
            transaction.execute_batch(&format!("DROP TRIGGER {}", quoted(&name)))?;
        }
        let there = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        let there: u64 = transaction.query_row(there, [CHANGES], |row| row.get(0))?;
        let mut lost = 0;
        if there > 0 {
            let count = format!("SELECT count(*) FROM {CHANGES} WHERE sent_at IS NULL");
            lost = transaction.query_row(&count, [], |row| row.get(0))?;
            transaction.execute_batch(&format!("DROP TABLE {CHANGES}"))?;
        }
        transaction.commit()?;
        Ok(lost)
    })
}

/// Each table: whether its triggers are those that would be made now.
fn look(db: &Db, tables: &[String]) -> rusqlite::Result<Vec<TableStatus>> {
    let there = triggers(db)?;
    let mut found = Vec::with_capacity(tables.len());
    for table in tables {
        let problem = match statements(db, table)? {
            None => Some("there is no such table".to_owned()),
            Some(wanted) if wanted.iter().all(|one| there.contains(one)) => None,
            Some(wanted) => {
                let has = |name: &String| there.iter().any(|(other, _)| other == name);
                Some(if wanted.iter().all(|(name, _)| has(name)) {
                    "its columns have changed: run `tangelo capture init` again".to_owned()
                } else {
                    "it has no triggers: run `tangelo capture init`".to_owned()
                })
            }
        };
        found.push(TableStatus {
            table: table.clone(),
            captured: problem.is_none(),
            problem,
        });
    }
    Ok(found)
}

/// Our triggers: name and text.
fn triggers(db: &Db) -> rusqlite::Result<Vec<(String, String)>> {
    let text =
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND substr(name, 1, ?1) = ?2";
    let mut statement = db.prepare(text)?;
    let rows = statement.query_map((PREFIX.len(), PREFIX), |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// The triggers of a table as they are made now: name and text; `None` when there is no such table.
fn statements(db: &Db, table: &str) -> rusqlite::Result<Option<Vec<(String, String)>>> {
    let mut statement = db.prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid")?;
    let rows = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let columns: Vec<(String, u32)> = rows.collect::<rusqlite::Result<_>>()?;
    if columns.is_empty() {
        return Ok(None);
    }
    let trigger = |(verb, word, before, after): (&str, &str, bool, bool)| {
        let name = format!("{PREFIX}{table}_{word}");
        let row = |is: bool, alias: &str| {
            if is {
                object(alias, columns.iter().map(|(name, _)| name.as_str()))
            } else {
                "NULL".to_owned()
            }
        };
        let last = if after { "NEW" } else { "OLD" };
        let (key, subject) = key(&columns, last);
        let (quoted_name, quoted_table) = (quoted(&name), quoted(table));
        let (before, after) = (row(before, "OLD"), row(after, "NEW"));
        let text = format!(
            "CREATE TRIGGER {quoted_name} AFTER {verb} ON {quoted_table} BEGIN \
             INSERT INTO {CHANGES} (type, subject, data) VALUES ('{table}.{word}', '{table}/' || {subject}, \
             json_object('table', '{table}', 'operation', '{word}', 'key', {key}, 'before', {before}, 'after', {after})); END"
        );
        (name, text)
    };
    Ok(Some(CHANGES_OF_ROWS.into_iter().map(trigger).collect()))
}

/// A row's key as a JSON object and as a text: the primary key's columns, else the row's number.
fn key(columns: &[(String, u32)], alias: &str) -> (String, String) {
    let mut keys: Vec<_> = columns.iter().filter(|(_, pk)| *pk > 0).collect();
    keys.sort_by_key(|(_, pk)| *pk);
    if keys.is_empty() {
        return (
            format!("json_object('rowid', {alias}.rowid)"),
            format!("{alias}.rowid"),
        );
    }
    let names = keys.iter().map(|(name, _)| name.as_str());
    let texts: Vec<_> = keys
        .iter()
        .map(|(name, _)| {
            format!(
                "ifnull(substr(CAST({alias}.{} AS TEXT), 1, 200), '')",
                quoted(name)
            )
        })
        .collect();
    (object(alias, names), texts.join(" || ',' || "))
}

/// Columns of a row as a JSON object. JSON has no bytes and no infinite numbers: those are objects and texts, so that no statement of
/// the app's fails for them. Of many columns there are pieces: a function of the app's SQLite may take 127 arguments only.
fn object<'c>(alias: &str, columns: impl Iterator<Item = &'c str>) -> String {
    let value = |name: &str| {
        let column = format!("{alias}.{}", quoted(name));
        format!(
            "CASE typeof({column}) WHEN 'blob' THEN json_object('hex', hex({column})) \
             WHEN 'real' THEN CASE WHEN abs({column}) <= 1.7976931348623157e308 THEN {column} ELSE CAST({column} AS TEXT) END \
             ELSE {column} END"
        )
    };
    let pairs: Vec<_> = columns
        .map(|name| format!("{}, {}", text(name), value(name)))
        .collect();
    let mut pieces: Vec<_> = pairs
        .chunks(40)
        .map(|chunk| format!("json_object({})", chunk.join(", ")))
        .collect();
    if pieces.len() == 1 {
        return pieces.remove(0);
    }
    let inner: Vec<_> = pieces
        .iter()
        .map(|piece| format!("substr({piece}, 2, length({piece}) - 2)"))
        .collect();
    format!("json('{{' || {} || '}}')", inner.join(" || ',' || "))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
