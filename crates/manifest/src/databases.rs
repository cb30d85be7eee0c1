//! `databases`: databases that the app owns, and what Tangelo takes from them.

use std::time::Duration;

use model::{Capture, Database, Engine, Name, Outbox, database};

use crate::{
    places::{DatabasePlaces, Draft},
    reader::{Fields, Reader, shown},
    tree::{Bytes, Node},
    workload::read_types,
};

/// Keys of a database.
pub(crate) const KEYS: &[&str] = &["sqlite", "postgres", "outbox", "capture"];
/// Keys of `sqlite`.
pub(crate) const SQLITE_KEYS: &[&str] = &["workload", "file"];
/// Keys of `postgres`.
pub(crate) const POSTGRES_KEYS: &[&str] = &["url", "password"];
/// Keys of `outbox`.
pub(crate) const OUTBOX_KEYS: &[&str] = &["table", "publishes", "sent", "poll"];

/// Keys of `capture`.
pub(crate) const CAPTURE_KEYS: &[&str] = &["tables", "poll"];

const LONGEST: usize = 1024;

pub(crate) fn read(reader: &mut Reader<'_>, node: &Node, draft: &mut Draft) {
    for (key, node) in reader.entries(node, "databases by name") {
        let name = reader.name(key.at, &key.text);
        let mut places = DatabasePlaces {
            name: key.at,
            ..DatabasePlaces::default()
        };
        let database = read_one(reader, key.at, node, &mut places);
        if let (Some(name), Some(database)) = (name, database) {
            draft.app.databases.insert(name.clone(), database);
            draft.databases.insert(name, places);
        }
    }
}

fn read_one(
    reader: &mut Reader<'_>,
    at: Bytes,
    node: &Node,
    places: &mut DatabasePlaces,
) -> Option<Database> {
    let fields = reader.fields(node, at, KEYS)?;
    let engine = match (fields.entry("sqlite"), fields.entry("postgres")) {
        (Some((key, node)), None) => read_sqlite(reader, key.at, node, places),
        (None, Some((key, node))) => read_postgres(reader, key.at, node),
        (Some(_), Some((key, _))) => {
            reader
                .error(key.at, "a database is `sqlite` or `postgres`, not both")
                .help("give each a name of its own under `databases`");
            None
        }
        (None, None) => {
            reader
                .error(at, "a database says what it is: `sqlite` or `postgres`")
                .help("for example `sqlite: {workload: orders, file: orders.db}`");
            None
        }
    };
    let outbox = fields
        .entry("outbox")
        .and_then(|(key, node)| read_outbox(reader, key.at, node, engine.as_ref()));
    let capture = fields
        .entry("capture")
        .and_then(|(key, node)| read_capture(reader, key.at, node, engine.as_ref()));
    Some(Database {
        engine: engine?,
        outbox,
        capture,
    })
}

fn read_sqlite(
    reader: &mut Reader<'_>,
    at: Bytes,
    node: &Node,
    places: &mut DatabasePlaces,
) -> Option<Engine> {
    let fields = reader.fields(node, at, SQLITE_KEYS)?;
    let workload = match fields.get("workload") {
        None => None,
        Some(node) => {
            let text = reader.string(node, "the name of a workload")?;
            places.workload = node.at;
            Some(reader.name(node.at, &text)?)
        }
    };
    let node = fields.required(reader, "file", "file: orders.db")?;
    let file = if workload.is_some() {
        reader.file(node, "the path of a file")?
    } else {
        absolute(reader, node)?
    };
    Some(Engine::Sqlite { workload, file })
}

fn absolute(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let file = reader.string(node, "the path of a file")?;
    let sound = file.starts_with('/')
        && file.len() <= LONGEST
        && !file.contains(char::is_control)
        && !file.split('/').any(|part| part == "..");
    if !sound {
        reader
            .error(node.at, format!("`{}` is no absolute path", shown(&file)))
            .help("with `workload: NAME` it is relative to the folder that the workload keeps (`state: [folder]`)");
    }
    Some(file)
}

fn read_postgres(reader: &mut Reader<'_>, at: Bytes, node: &Node) -> Option<Engine> {
    let fields = reader.fields(node, at, POSTGRES_KEYS)?;
    let example = "url: postgres://shop@localhost/shop";
    let node = fields.required(reader, "url", example)?;
    let url = reader.string(node, "the URL of a database")?;
    check_url(reader, node.at, &url);
    let password = fields.get("password");
    let password = password.and_then(|node| reader.secret(node, "password", "SHOP_DB_PASSWORD"));
    Some(Engine::Postgres { url, password })
}

fn check_url(reader: &mut Reader<'_>, at: Bytes, url: &str) {
    let rest = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let Some(rest) = rest.filter(|_| url.len() <= LONGEST && !url.contains(char::is_control))
    else {
        reader
            .error(at, "expected the URL of a Postgres database")
            .help("for example `postgres://shop@localhost:5432/shop`");
        return;
    };
    let roots = rest
        .split(['?', '&'])
        .find_map(|part| part.strip_prefix("sslrootcert="));
    if roots.is_some_and(|roots| roots != "system" && !roots.starts_with(['/', '%'])) {
        reader
            .error(
                at,
                "`sslrootcert` is an absolute path on the server's machine, or `system`",
            )
            .help("for example `?sslrootcert=/etc/ssl/private-ca.pem`");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    if user.is_some_and(|user| user.contains(':')) || rest.contains("password=") {
        reader
            .error(at, "a password does not belong into the manifest")
            .help("put it among the secrets and name it: `password: SHOP_DB_PASSWORD`");
    }
}

fn read_outbox(
    reader: &mut Reader<'_>,
    at: Bytes,
    node: &Node,
    engine: Option<&Engine>,
) -> Option<Outbox> {
    let fields = reader.fields(node, at, OUTBOX_KEYS)?;
    let table = fields
        .get("table")
        .and_then(|node| read_table(reader, node, engine));
    let publishes = read_published(reader, fields);
    let sent = match fields
        .get("sent")
        .map(|node| reader.word(node, &["delete", "keep"]))
    {
        Some(Some("keep")) => database::Sent::Keep,
        _ => database::Sent::Delete,
    };
    let poll = read_poll(reader, fields);
    Some(Outbox {
        table: table.unwrap_or_else(|| database::OUTBOX_TABLE.to_owned()),
        publishes,
        sent,
        poll: poll.unwrap_or(Outbox::POLL),
    })
}

fn read_poll(reader: &mut Reader<'_>, fields: Fields<'_>) -> Option<Duration> {
    let (least, most) = (Duration::from_millis(50), Duration::from_secs(60));
    let node = fields.get("poll")?;
    reader.duration(node, least, most)
}

fn read_capture(
    reader: &mut Reader<'_>,
    at: Bytes,
    node: &Node,
    engine: Option<&Engine>,
) -> Option<Capture> {
    let fields = reader.fields(node, at, CAPTURE_KEYS)?;
    let list = fields.required(reader, "tables", "tables: [orders]")?;
    let mut tables: Vec<String> = Vec::new();
    for node in reader.list(list, "tables") {
        if let Some(table) = read_table(reader, node, engine) {
            if tables.contains(&table) {
                let message = format!("`{}` is captured twice", shown(&table));
                reader.error(node.at, message);
            }
            tables.push(table);
        }
    }
    if tables.is_empty() {
        reader
            .error(list.at, "a capture has at least one table")
            .help("for example `capture: {tables: [orders]}`");
    }
    Some(Capture {
        tables,
        poll: read_poll(reader, fields).unwrap_or(Outbox::POLL),
    })
}

fn read_published(reader: &mut Reader<'_>, fields: Fields<'_>) -> Vec<String> {
    let Some(node) = fields.required(reader, "publishes", "publishes: [order.created]") else {
        return Vec::new();
    };
    let types = read_types(reader, node);
    if types.is_empty() {
        reader
            .error(node.at, "an outbox publishes at least one event type")
            .help("a trailing `*` stands for any rest: `order.*`");
    }
    types
}

fn read_table(reader: &mut Reader<'_>, node: &Node, engine: Option<&Engine>) -> Option<String> {
    let text = reader.string(node, "the name of a table")?;
    let in_file = matches!(engine, Some(Engine::Sqlite { .. }));
    if !database::is_table_name(&text) || in_file && text.contains('.') {
        reader
            .error(node.at, format!("`{}` is no name of a table", shown(&text)))
            .help("a-z, 0-9 and `_`, 48 at most, not beginning with a digit; in Postgres `schema.name`, too");
    }
    Some(text)
}

/// Checks what databases say about the rest of the app.
pub(crate) fn check(reader: &mut Reader<'_>, draft: &Draft) {
    for (name, database) in &draft.app.databases {
        let Engine::Sqlite {
            workload: Some(workload),
            ..
        } = &database.engine
        else {
            continue;
        };
        let at = draft.databases[name].workload;
        match draft.app.workloads.get(workload) {
            None => {
                let known = draft.declared.iter().map(String::as_str);
                let message = format!("there is no workload `{workload}`");
                reader.unknown_word(at, message, workload.as_str(), known);
            }
            Some(found) if !found.state_folder => {
                reader
                    .error(
                        at,
                        format!("`{workload}` keeps no folder that a file could be in"),
                    )
                    .help("add `state: [folder]` to it; the file is then in `TANGELO_STATE_DIR`");
            }
            Some(_) => {}
        }
    }
    check_files(reader, draft);
}

/// One relay reads an outbox: two names for one would take turns at refusing each other.
fn check_files(reader: &mut Reader<'_>, draft: &Draft) {
    let mut seen: Vec<(&Engine, &str, &Name)> = Vec::new();
    for (name, database) in &draft.app.databases {
        let Some(outbox) = &database.outbox else {
            continue;
        };
        let this = (&database.engine, outbox.table.as_str());
        if let Some((_, _, first)) = seen.iter().find(|(e, t, _)| (*e, *t) == this) {
            let message = format!("`{name}` has the same outbox as `{first}`");
            reader
                .error(draft.databases[name].name, message)
                .help("one name for each database");
        }
        seen.push((this.0, this.1, name));
    }
}

#[cfg(test)]
mod tests {
    use model::{Engine, Limits, Name, database::Sent};

    fn parsed(databases: &str) -> crate::Parsed {
        let text = format!(
            "app: one\nworkloads:\n  it: {{as: service, run: {{process: {{command: [./a]}}}}, state: [folder]}}\n  \
             bare: {{as: service, run: {{process: {{command: [./a]}}}}}}\ndatabases: {databases}\n"
        );
        crate::parse(&text, "tangelo.yaml", &Limits::default())
    }

    fn messages(databases: &str) -> Vec<String> {
        let noted = parsed(databases).diagnostics.into_iter();
        noted.map(|d| d.message).collect()
    }

    #[test]
    fn databases_are_read() {
        let text = "{a: {sqlite: {workload: it, file: a.db}, outbox: {publishes: [order.*]}}, \
                    b: {postgres: {url: 'postgres://u@h/d', password: PW}, \
                        outbox: {table: app.box, publishes: [x], sent: keep, poll: 250ms}}}";
        let app = parsed(text).app.expect("is one");
        let (a, b) = (
            &app.databases[&Name::literal("a")],
            &app.databases[&Name::literal("b")],
        );
        assert_eq!((a.engine.kind(), b.engine.kind()), ("sqlite", "postgres"));
        let (ours, theirs) = (
            a.outbox.as_ref().expect("one"),
            b.outbox.as_ref().expect("one"),
        );
        assert_eq!(
            (ours.table.as_str(), ours.sent),
            ("tangelo_outbox", Sent::Delete)
        );
        assert_eq!(
            (theirs.table.as_str(), theirs.sent),
            ("app.box", Sent::Keep)
        );
        assert_eq!(
            (ours.poll.as_millis(), theirs.poll.as_millis()),
            (1000, 250)
        );
        assert!(matches!(&b.engine, Engine::Postgres { password: Some(name), .. } if name == "PW"));
    }

    #[test]
    fn mistakes_are_named() {
        let pg = "url: 'postgres://u@h/d'";
        for (databases, told) in [
            (
                "{a: {postgres: {PG}, capture: {tables: []}}}",
                "a capture has at least one table",
            ),
            (
                "{a: {postgres: {PG}, capture: {tables: [x, x]}}}",
                "`x` is captured twice",
            ),
            (
                "{a: {sqlite: {file: /a}, capture: {tables: [a.b]}}}",
                "`a.b` is no name of a table",
            ),
            ("{a: {postgres: {PG}, capture: {}}}", "`tables` is missing"),
            (
                "{a: {}}",
                "a database says what it is: `sqlite` or `postgres`",
            ),
            ("{a: {sqlit: {}}}", "unknown key `sqlit`"),
            ("{a: {sqlite: {file: a.db}}}", "`a.db` is no absolute path"),
            (
                "{a: {sqlite: {file: /a/../b}}}",
                "`/a/../b` is no absolute path",
            ),
            (
                "{a: {sqlite: {workload: it, file: /a.db}}}",
                "`/a.db` is absolute",
            ),
            (
                "{a: {sqlite: {workload: its, file: a.db}}}",
                "there is no workload `its`",
            ),
            (
                "{a: {sqlite: {workload: bare, file: a.db}}}",
                "`bare` keeps no folder that a file could be in",
            ),
            (
                "{a: {postgres: {url: 'mysql://h/d'}}}",
                "expected the URL of a Postgres database",
            ),
            (
                "{a: {postgres: {url: 'postgres://u:p@h/d'}}}",
                "a password does not belong into the manifest",
            ),
            (
                "{a: {postgres: {url: 'postgres://u@h/d?sslmode=require&sslrootcert=ca.pem'}}}",
                "`sslrootcert` is an absolute path on the server's machine, or `system`",
            ),
            (
                "{a: {postgres: {PG, password: 's3cr t!'}}}",
                "`password` is the name of a secret, not the password",
            ),
            (
                "{a: {postgres: {PG}, outbox: {}}}",
                "`publishes` is missing",
            ),
            (
                "{a: {postgres: {PG}, outbox: {publishes: []}}}",
                "an outbox publishes at least one event type",
            ),
            (
                "{a: {postgres: {PG}, outbox: {publishes: [x], table: 'a b'}}}",
                "`a b` is no name of a table",
            ),
            (
                "{a: {postgres: {PG}, outbox: {publishes: [x], sent: move}}}",
                "`move` is not known here",
            ),
            (
                "{a: {postgres: {PG}, outbox: {publishes: [x], poll: 1ms}}}",
                "`1ms` is out of range",
            ),
            (
                "{a: {postgres: {PG}, outbox: {publishes: [x]}}, b: {postgres: {PG}, outbox: {publishes: [x]}}}",
                "`b` has the same outbox as `a`",
            ),
        ] {
            let databases = databases.replace("PG", pg);
            let all = messages(&databases);
            assert!(all.iter().any(|one| one == told), "{databases}: {all:?}");
            assert!(!all.iter().any(|one| one.contains("s3cr")), "{all:?}");
        }
    }
}
