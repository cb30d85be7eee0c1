//! What a statement reads from a database of an app, as JSON: for comparing. It can only read.

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use serde_json::{Map, Number, Value};

use crate::{Address, Error, postgres, sqlite};

/// Rows that a statement may give.
const MAX_ROWS: usize = 100_000;
/// Bytes that they may have, as JSON.
const MAX_BYTES: usize = 64 << 20;

/// A row by its columns.
pub type JsonRow = Map<String, Value>;

/// The rows of `sql`.
///
/// # Errors
/// What the database fails with, also when there are more than can be compared at once.
pub async fn query(address: &Address, sql: &str) -> Result<Vec<JsonRow>, Error> {
    match address {
        Address::Sqlite(file) => {
            let (file, sql) = (file.clone(), sql.to_owned());
            sqlite::blocking(move || of_file(&file, &sql)).await
        }
        Address::Postgres(server) => {
            let connection = postgres::Connection::open(server).await?;
            connection.run("BEGIN READ ONLY").await?;
            let text = format!(
                "SELECT row_to_json(q)::text FROM (\n{}\n) AS q LIMIT {}",
                sql.trim_end().trim_end_matches(';'),
                MAX_ROWS + 1
            );
            let found = connection.query(&text, &[]).await?;
            let mut rows = Rows::new(address);
            for row in &found {
                let text: &str = row.get(0);
                let value = serde_json::from_str(text);
                rows.push(value.map_err(|e| rows.failed(e.to_string()))?, text.len())?;
            }
            Ok(rows.found)
        }
    }
}

fn of_file(file: &std::path::Path, sql: &str) -> Result<Vec<JsonRow>, Error> {
    let mut connection = sqlite::Connection::open(file)?;
    connection.run_mut(|db| {
        db.pragma_update(None, "query_only", true)?;
        db.authorizer(Some(only_reads))
    })?;
    let mut rows = Rows::new(&Address::Sqlite(file.to_owned()));
    let mut refused = None;
    connection.run(|db| {
        let mut statement = db.prepare(sql)?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let mut object = JsonRow::new();
            let mut size = 0;
            for (at, name) in names.iter().enumerate() {
                let value = value(row.get_ref(at)?);
                size += name.len() + value.as_str().map_or(16, str::len);
                object.insert(name.clone(), value);
            }
            if let Err(error) = rows.push(object, size) {
                refused = Some(error);
                break;
            }
        }
        Ok(())
    })?;
    refused.map_or(Ok(rows.found), Err)
}

/// What a statement may do. `query_only` keeps the file as it is; a statement could still turn that off, make other files
/// (`VACUUM INTO`) or open them (`ATTACH`).
fn only_reads(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select
        | AuthAction::Read { .. }
        | AuthAction::Function { .. }
        | AuthAction::Recursive
        // The index for full-text search asks for it.
        | AuthAction::Pragma { pragma_name: "data_version", pragma_value: None } => {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

fn value(found: rusqlite::types::ValueRef<'_>) -> Value {
    use rusqlite::types::ValueRef;
    match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into(),
    }
}

/// Rows so far.
struct Rows {
    place: String,
    found: Vec<JsonRow>,
    bytes: usize,
}

impl Rows {
    fn new(address: &Address) -> Self {
        Self {
            place: address.to_string(),
            found: Vec::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, row: JsonRow, size: usize) -> Result<(), Error> {
        self.bytes += size;
        if self.found.len() >= MAX_ROWS || self.bytes > MAX_BYTES {
            let most = MAX_BYTES >> 20;
            return Err(self.failed(format!(
                "the query has more than {MAX_ROWS} rows or {most} MiB: compare a part, such as what changed lately"
            )));
        }
        self.found.push(row);
        Ok(())
    }

    fn failed(&self, why: String) -> Error {
        Error::Failed {
            place: self.place.clone(),
            why,
        }
    }
}
