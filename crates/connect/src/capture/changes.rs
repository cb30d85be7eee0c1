//! From messages of logical decoding to events: what belongs to one transaction, which table is meant, and what is known of a row
//! before and after. Pure: messages in, events out.

use std::collections::{BTreeMap, HashMap};

use model::{Event, Time, event::EventData};
use serde_json::{Map, Value as Json, json};

use super::{
    pgoutput::{Lsn, Message, Old, Relation, Value},
    values,
};

/// Microseconds from 1970 to 2000, where Postgres counts from.
const EPOCH: u64 = 946_684_800_000_000;
/// The longest text of a key in a subject.
const LONGEST: usize = 500;

/// What is known while messages come.
pub(super) struct Changes {
    source: String,
    /// Bytes that the data of an event may have.
    limit: usize,
    relations: HashMap<u32, Relation>,
    /// The columns of primary keys, by the number of their table.
    keys: HashMap<u32, Vec<String>>,
    transaction: Option<Transaction>,
}

struct Transaction {
    id: u32,
    commit: Lsn,
    at: Time,
    /// Changes of it so far.
    count: u64,
}

/// What a message comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// Nothing yet.
    Nothing,
    /// Events of the transaction.
    Events(Vec<Event>),
    /// The transaction ends: all of it was told.
    End(Lsn),
}

impl Changes {
    pub(super) fn new(source: &str, limit: usize, keys: HashMap<u32, Vec<String>>) -> Self {
        Self {
            source: source.to_owned(),
            limit,
            keys,
            relations: HashMap::new(),
            transaction: None,
        }
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// What it stands for that was not told before.
    pub(super) fn take(&mut self, message: Message) -> Result<Outcome, String> {
        Ok(match message {
            Message::Begin {
                commit,
                at,
                transaction,
            } => {
                let since = u64::try_from(at).unwrap_or_default();
                self.transaction = Some(Transaction {
                    id: transaction,
                    commit,
                    at: Time(EPOCH.saturating_add(since)),
                    count: 0,
                });
                Outcome::Nothing
            }
            Message::Commit { end, .. } => {
                self.transaction = None;
                Outcome::End(end)
            }
            Message::Relation(relation) => {
                self.relations.insert(relation.id, relation);
                Outcome::Nothing
            }
            Message::Origin { .. } | Message::Type { .. } => Outcome::Nothing,
            Message::Insert { relation, new } => {
                self.event(relation, "inserted", None, Some(new))?
            }
            Message::Update { relation, old, new } => {
                self.event(relation, "updated", old, Some(new))?
            }
            Message::Delete { relation, old } => {
                self.event(relation, "deleted", Some(old), None)?
            }
            Message::Truncate { relations, .. } => {
                let mut events = Vec::new();
                for relation in relations {
                    if let Outcome::Events(more) = self.event(relation, "truncated", None, None)? {
                        events.extend(more);
                    }
                }
                Outcome::Events(events)
            }
        })
    }

    fn event(
        &mut self,
        relation: u32,
        word: &str,
        old: Option<Old>,
        new: Option<Vec<Value>>,
    ) -> Result<Outcome, String> {
        let relation = self.relations.get(&relation);
        let relation = relation.ok_or("a change of a table that was not described")?;
        let transaction = self.transaction.as_mut();
        let transaction = transaction.ok_or("a change outside of a transaction")?;
        transaction.count += 1;
        let table = name(relation);
        let mut row = Row::of(relation, old, new);
        let key = row.key(relation, self.keys.get(&relation.id));
        let subject = subject(&table, &key);
        let about = json!({
            "id": transaction.id,
            "commit_lsn": transaction.commit.to_string(),
            "committed_at": transaction.at.rfc3339(),
            "sequence": transaction.count,
        });
        let data = loop {
            let mut data = json!({
                "table": table, "operation": word, "key": key, "before": row.before, "after": row.after,
                "transaction": about,
            });
            if !row.unchanged.is_empty() {
                data["unchanged"] = row.unchanged.clone().into();
            }
            if !row.omitted.is_empty() {
                data["omitted"] = row.omitted.clone().into();
            }
            if data.to_string().len() <= self.limit || !row.omit() {
                break data;
            }
        };
        Ok(Outcome::Events(vec![Event {
            id: format!("{}-{}", transaction.commit, transaction.count),
            source: self.source.clone(),
            kind: format!("{table}.{word}"),
            extensions: BTreeMap::from([("partitionkey".to_owned(), Json::from(subject.as_str()))]),
            subject: Some(subject),
            time: Some(transaction.at),
            content_type: None,
            schema: None,
            data: EventData::Json(data),
        }]))
    }
}

/// A row before and after, as far as it is known.
#[derive(Default)]
struct Row {
    before: Json,
    after: Json,
    /// Columns whose values are stored apart, have not changed, and are in no message.
    unchanged: Vec<String>,
    /// Columns that were left out since the event would be too large.
    omitted: Vec<String>,
}

impl Row {
    fn of(relation: &Relation, old: Option<Old>, new: Option<Vec<Value>>) -> Self {
        let mut row = Self::default();
        let before = match old {
            None => None,
            Some(Old::Row(values)) => Some(object(relation, &values, |_| true).0),
            Some(Old::Key(values)) => Some(object(relation, &values, |flags| flags & 1 == 1).0),
        };
        if let Some(values) = new {
            let (mut after, missing) = object(relation, &values, |_| true);
            // What has not changed is what it was, where that was told (REPLICA IDENTITY FULL).
            for column in missing {
                match before.as_ref().and_then(|before| before.get(&column)) {
                    Some(value) => drop(after.insert(column, value.clone())),
                    None => row.unchanged.push(column),
                }
            }
            row.after = Json::Object(after);
        }
        row.before = before.map_or(Json::Null, Json::Object);
        row
    }

    /// The columns of the row's key; without one, those of its replica identity.
    fn key(&self, relation: &Relation, primary: Option<&Vec<String>>) -> Json {
        let row = if self.after.is_null() {
            &self.before
        } else {
            &self.after
        };
        let of_key = |name: &String| Some((name.clone(), row.get(name)?.clone()));
        if let Some(columns) = primary {
            return Json::Object(columns.iter().filter_map(of_key).collect());
        }
        let columns = relation.columns.iter();
        let identity = columns.filter(|column| column.flags & 1 == 1);
        Json::Object(
            identity
                .map(|column| &column.name)
                .filter_map(of_key)
                .collect(),
        )
    }

    /// Leaves the largest value out, and says so. Whether there was one.
    fn omit(&mut self) -> bool {
        let sides = [&self.before, &self.after];
        let columns = sides.into_iter().filter_map(Json::as_object).flatten();
        let sizes = columns.map(|(name, value)| (value.to_string().len(), name.clone()));
        let Some((size, name)) = sizes.max() else {
            return false;
        };
        if size < 64 {
            return false;
        }
        for side in [&mut self.before, &mut self.after] {
            if let Some(row) = side.as_object_mut() {
                row.remove(&name);
            }
        }
        self.omitted.push(name);
        true
    }
}

/// Values by column, and the columns that are not in the message.
fn object(
    relation: &Relation,
    values: &[Value],
    wanted: impl Fn(u8) -> bool,
) -> (Map<String, Json>, Vec<String>) {
    let (mut row, mut missing) = (Map::new(), Vec::new());
    for (column, value) in relation.columns.iter().zip(values) {
        if !wanted(column.flags) {
            continue;
        }
        match values::json(value, column.kind) {
            Some(value) => drop(row.insert(column.name.clone(), value)),
            None => missing.push(column.name.clone()),
        }
    }
    (row, missing)
}

/// `table`, or `schema.table` where the schema is not `public`.
fn name(relation: &Relation) -> String {
    match relation.schema.as_str() {
        "public" => relation.name.clone(),
        schema => format!("{schema}.{}", relation.name),
    }
}

fn subject(table: &str, key: &Json) -> String {
    let text = |value: &Json| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let values: Vec<_> = key
        .as_object()
        .into_iter()
        .flatten()
        .map(|(_, v)| text(v))
        .collect();
    let key: String = values
        .join(",")
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    let end = key
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| *at >= LONGEST);
    format!("{table}/{}", &key[..end.unwrap_or(key.len())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::pgoutput::Column;

    fn column(name: &str, flags: u8, kind: u32) -> Column {
        Column {
            flags,
            name: name.to_owned(),
            kind,
            modifier: -1,
        }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    /// Changes in the middle of a transaction, of a table with a key, a number and a text.
    fn changes(limit: usize) -> Changes {
        let mut changes = Changes::new("/shop/db", limit, HashMap::new());
        let relation = Relation {
            id: 7,
            schema: "public".into(),
            name: "orders".into(),
            identity: b'd',
            columns: vec![
                column("id", 1, 25),
                column("total", 0, 1700),
                column("note", 0, 25),
            ],
        };
        let begin = Message::Begin {
            commit: Lsn(0x1_0000_00ff),
            at: 1_000_000,
            transaction: 42,
        };
        for message in [begin, Message::Relation(relation)] {
            assert_eq!(changes.take(message), Ok(Outcome::Nothing));
        }
        changes
    }

    fn one(changes: &mut Changes, message: Message) -> (Event, Json) {
        let Ok(Outcome::Events(mut events)) = changes.take(message) else {
            panic!("an event")
        };
        let event = events.remove(0);
        let EventData::Json(data) = event.data.clone() else {
            panic!("has data")
        };
        event.check().expect("is one");
        (event, data)
    }

    #[test]
    fn a_transaction_becomes_events_with_what_was_and_is() {
        let mut changes = changes(10_000);
        let new = vec![text("o-1"), text("12.50"), Value::Null];
        let (event, data) = one(&mut changes, Message::Insert { relation: 7, new });
        assert_eq!(
            (event.kind.as_str(), event.id.as_str()),
            ("orders.inserted", "1/FF-1")
        );
        assert_eq!(event.subject.as_deref(), Some("orders/o-1"));
        let expected = json!({
            "table": "orders", "operation": "inserted", "key": {"id": "o-1"}, "before": null,
            "after": {"id": "o-1", "total": 12.5, "note": null},
            "transaction": {
                "id": 42, "commit_lsn": "1/FF", "committed_at": "2000-01-01T00:00:01.000000Z", "sequence": 1,
            },
        });
        assert_eq!(data, expected);
        let old = Old::Key(vec![text("o-1"), Value::Null, Value::Null]);
        let (event, data) = one(&mut changes, Message::Delete { relation: 7, old });
        assert_eq!(
            (event.kind.as_str(), event.id.as_str()),
            ("orders.deleted", "1/FF-2")
        );
        assert_eq!(
            (&data["before"], &data["after"]),
            (&json!({"id": "o-1"}), &Json::Null)
        );
        let end = Message::Commit {
            flags: 0,
            commit: Lsn(1),
            end: Lsn(2),
            at: 0,
        };
        assert_eq!(changes.take(end), Ok(Outcome::End(Lsn(2))));
        let lost = Message::Truncate {
            options: 0,
            relations: vec![7],
        };
        assert!(changes.take(lost).is_err(), "no transaction is open");
    }

    #[test]
    fn values_that_have_not_changed_are_filled_in_or_named() {
        let mut changes = changes(10_000);
        let new = || vec![text("o-1"), text("13"), Value::Unchanged];
        let update = Message::Update {
            relation: 7,
            old: None,
            new: new(),
        };
        let data = one(&mut changes, update).1;
        assert_eq!(data["after"], json!({"id": "o-1", "total": 13.0}));
        assert_eq!(data["unchanged"], json!(["note"]));
        let update = Message::Update {
            relation: 7,
            old: Some(Old::Row(vec![text("o-1"), text("12"), text("long")])),
            new: new(),
        };
        let data = one(&mut changes, update).1;
        assert_eq!(
            data["after"],
            json!({"id": "o-1", "total": 13.0, "note": "long"})
        );
        assert_eq!(
            (&data["before"]["total"], &data["unchanged"]),
            (&json!(12.0), &Json::Null)
        );
    }

    #[test]
    fn what_is_too_large_is_left_out_and_named() {
        let mut changes = changes(1000);
        let new = vec![text("o-1"), text("1"), text(&"x".repeat(5000))];
        let data = one(&mut changes, Message::Insert { relation: 7, new }).1;
        assert_eq!(data["omitted"], json!(["note"]));
        assert_eq!(data["after"], json!({"id": "o-1", "total": 1.0}));
    }

    #[test]
    fn a_table_that_was_not_described_is_an_error() {
        let new = vec![];
        let told = changes(1000).take(Message::Insert { relation: 8, new });
        assert!(told.is_err_and(|why| why.contains("not described")));
    }
}
