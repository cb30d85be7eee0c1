//! `tangelo outbox`: the tables in apps' own databases whose rows are events.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Cli;
use crate::{
    client::{Client, query},
    show,
};

/// Print the table of an outbox, and see how its relay is doing
#[derive(Debug, Args)]
pub(crate) struct Outbox {
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the statements that make an outbox; Tangelo never runs them itself
    Init {
        /// For which database
        #[arg(value_enum)]
        engine: Engine,
        /// The table's name; `schema.name` in Postgres, too
        #[arg(long, default_value = model::database::OUTBOX_TABLE)]
        table: String,
    },
    /// Show what waits, for how long, and what is in the way
    Status,
    /// List rows that were set aside because they are no events
    Refused {
        /// Whose: app/database
        #[arg(value_parser = pair)]
        outbox: (String, String),
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Let rows that were set aside go again
    Retry(Rows),
    /// Delete rows that were set aside
    Discard(Rows),
}

#[derive(Debug, Args)]
struct Rows {
    /// Whose: app/database
    #[arg(value_parser = pair)]
    outbox: (String, String),
    /// Their positions, as `refused` lists them
    #[arg(required_unless_present = "all")]
    positions: Vec<i64>,
    /// All of them
    #[arg(long, conflicts_with = "positions")]
    all: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Engine {
    Sqlite,
    Postgres,
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Outbox) -> Result<ExitCode> {
    match &ask.command {
        None | Some(Action::Status) => status(cli, client.get("/v1/outboxes").await?)?,
        Some(Action::Init { engine, table }) => init(cli, *engine, table)?,
        Some(Action::Refused { outbox, limit }) => {
            let limit = query(&[("limit", Some(limit.to_string()))]);
            let path = format!("{}/refused{limit}", path(outbox));
            refused(cli, client.get(&path).await?)?;
        }
        Some(Action::Retry(rows)) => change(cli, client, rows, "retry").await?,
        Some(Action::Discard(rows)) => change(cli, client, rows, "discard").await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn init(cli: &Cli, engine: Engine, table: &str) -> Result<()> {
    let (dialect, word) = match engine {
        Engine::Sqlite => (platform::databases::Dialect::Sqlite, "sqlite"),
        Engine::Postgres => (platform::databases::Dialect::Postgres, "postgres"),
    };
    if !model::database::is_table_name(table) || word == "sqlite" && table.contains('.') {
        fail!(
            BAD_ARGUMENT,
            "`{table}` is no name of a table: a-z, 0-9 and `_`, 48 at most, not beginning with a digit"
        );
    }
    let sql = platform::databases::outbox_sql(dialect, table);
    if cli.json {
        return show::json(&json!({"engine": word, "table": table, "sql": sql}));
    }
    anstream::print!("{sql}");
    Ok(())
}

fn status(cli: &Cli, answer: Value) -> Result<()> {
    if cli.json {
        return show::json(&answer);
    }
    let rows = answer["outboxes"].as_array().into_iter().flatten();
    let rows = rows.map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        let number = |name: &str| row[name].to_string();
        let why = row["why"]["message"]
            .as_str()
            .map_or_else(String::new, |why| {
                let code = row["why"]["code"].as_str().unwrap_or_default();
                format!("{why} [{code}]")
            });
        vec![
            format!("{}/{}", text("app"), text("database")),
            text("engine"),
            text("table"),
            text("state"),
            number("waiting"),
            format!("{} ms", row["lag_ms"]),
            number("refused"),
            number("sent"),
            why,
        ]
    });
    show::table(
        &[
            "outbox", "engine", "table", "state", "waiting", "lag", "refused", "sent", "why",
        ],
        rows.collect(),
        "no outboxes",
    );
    Ok(())
}

fn refused(cli: &Cli, answer: Value) -> Result<()> {
    if cli.json {
        return show::json(&answer);
    }
    let columns = ["position", "id", "type", "key", "created_at", "reason"];
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows = answer["refused"].as_array().into_iter().flatten();
    let rows = rows.map(|row| columns.iter().map(|column| text(&row[*column])).collect());
    show::table(&columns, rows.collect(), "no row was set aside");
    Ok(())
}

async fn change(cli: &Cli, client: &Client, rows: &Rows, verb: &str) -> Result<()> {
    let positions = (!rows.all).then(|| rows.positions.clone());
    let path = format!("{}/{verb}", path(&rows.outbox));
    let answer: Value = client
        .post(&path, &json!({ "positions": positions }))
        .await?;
    if cli.json {
        return show::json(&answer);
    }
    let (count, what) = match answer["retried"].as_u64() {
        Some(count) => (count, "will be published again"),
        None => (answer["discarded"].as_u64().unwrap_or_default(), "deleted"),
    };
    let rows = if count == 1 { "row" } else { "rows" };
    anstream::println!("{count} {rows} {what}");
    Ok(())
}

fn path((app, database): &(String, String)) -> String {
    format!("/v1/outboxes/{app}/{database}")
}

const PAIR: &str =
    "expected APP/NAME, as `tangelo outbox`, `tangelo capture` or `tangelo reconcile` lists them";

/// `app/name`: a database of an app, or a reconciliation.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('/');
    let name = |text: &str| model::Name::new(text).is_ok();
    match parts {
        Some((app, database)) if name(app) && name(database) => {
            Ok((app.to_owned(), database.to_owned()))
        }
        _ => Err(PAIR.to_owned()),
    }
}
