//! The app that is put on the server: a sink that writes down what it gets, and what it subscribes to.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Name, rows::Database};

/// Subscriptions that are looked at: that of what happens, and that of what fails until it is redriven.
pub(super) const HAPPENED: &str = "soak/sink/happened";
pub(super) const BROKEN: &str = "soak/sink/broken";

const SINK: &str = include_str!("sink.py");
const MANIFEST: &str = "app: soak
workloads:
  sink:
    as: service
    run: {process: {command: [python3, sink.py]}}
    env: {SINK_PORT: 'PORT', SINK_FAILS: 'FAILS'}
    state: [folder]
    timeout: 10s
    async: {backoff: 1s}
    on:
      - event: {type: [soak.happened]}
        name: happened
        retry: {attempts: 100, backoff: 100ms, max_backoff: 1s}
ORDER
gateway:
  routes:
    - {path: /events, methods: [POST], to: events}
    - {path: /later, methods: [POST], to: sink, async: true}
    - {path: /sink, methods: [GET], to: sink}
";
const FAILING: &str = "      - event: {type: [soak.broken]}
        name: broken
        retry: {attempts: 1, backoff: 20ms}
        order: {key: $.subject}";

/// Writes it below `folder`; the sink holds `port` as long as it lives.
pub(super) fn write(
    folder: &Path,
    name: Name,
    port: u16,
    database: Option<&Database>,
) -> anyhow::Result<PathBuf> {
    let app = folder.join("app");
    fs::create_dir_all(&app)?;
    let by = |key: &str| format!("        order: {{key: {key}}}");
    let order = match name {
        Name::Events | Name::Invokes => String::new(),
        Name::OutboxSqlite | Name::OutboxPostgres => by("$.partitionkey"),
        Name::Deliveries => by("$.subject"),
        Name::Replays => format!("{}\n{FAILING}", by("$.subject")),
    };
    let fails = if name == Name::Deliveries {
        "some"
    } else {
        "none"
    };
    let mut manifest = MANIFEST
        .replace("'PORT'", &format!("'{port}'"))
        .replace("FAILS'}", &format!("{fails}'}}"))
        .replace("ORDER", &order);
    manifest.push_str(&database.map_or_else(String::new, Database::manifest));
    fs::write(app.join("tangelo.yaml"), manifest)?;
    fs::write(app.join("sink.py"), SINK)?;
    Ok(app)
}
