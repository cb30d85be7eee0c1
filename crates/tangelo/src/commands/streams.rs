//! `tangelo streams`: the numbered events of a subject, for event sourcing.

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{Cli, invoke};
use crate::{
    client::{Client, query, segment},
    show,
};

/// Look at streams of events, append to them, and read their snapshots
#[derive(Debug, Args)]
pub(crate) struct Streams {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the streams of an app with their versions
    List {
        /// The app
        app: String,
        /// Only subjects that begin with this
        #[arg(long)]
        prefix: Option<String>,
        /// Only subjects behind this one
        #[arg(long, value_name = "SUBJECT")]
        after: Option<String>,
        /// At most this many
        #[arg(short = 'n', long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
    },
    /// Show the events of a stream
    Read {
        /// The app
        app: String,
        /// The subject of the stream
        subject: String,
        /// From this version on, or `snapshot`: what comes behind its snapshot
        #[arg(long, default_value = "1")]
        from: String,
        /// At most this many
        #[arg(short = 'n', long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
    },
    /// Append an event to a stream
    Append {
        /// The app
        app: String,
        /// The subject of the stream
        subject: String,
        /// The event's type, such as order.paid
        #[arg(value_name = "TYPE")]
        kind: String,
        /// The event's data: JSON, `@FILE`, or `-` for standard input
        #[arg(short = 'd', long, default_value = "{}", value_name = "JSON")]
        payload: String,
        /// Only when the stream is at this version; 0: only when it has had no event
        #[arg(long)]
        expected: Option<u64>,
        /// Who says so
        #[arg(long, default_value = "tangelo-cli")]
        source: String,
        /// The event's id; appending the same again is answered as it was then
        #[arg(long)]
        id: Option<String>,
    },
    /// Print the snapshot of a stream
    Snapshot {
        /// The app
        app: String,
        /// The subject of the stream
        subject: String,
    },
    /// Take the events up to a version out of a stream; the log keeps them as long as all others
    Truncate {
        /// The app
        app: String,
        /// The subject of the stream
        subject: String,
        /// The last version that goes
        #[arg(long)]
        through: u64,
    },
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Streams) -> Result<ExitCode> {
    match &ask.command {
        Action::List {
            app,
            prefix,
            after,
            limit,
        } => {
            let asked = query(&[
                ("prefix", prefix.clone()),
                ("after", after.clone()),
                ("limit", Some(limit.to_string())),
            ]);
            list(
                cli,
                &client
                    .get(&format!("/v1/streams/{}{asked}", segment(app)))
                    .await?,
            )?;
        }
        Action::Read {
            app,
            subject,
            from,
            limit,
        } => {
            let asked = query(&[
                ("from", Some(from.clone())),
                ("limit", Some(limit.to_string())),
            ]);
            let at = format!("{}{asked}", path(app, subject));
            read(cli, &client.get(&at).await?)?;
        }
        Action::Append { .. } => append(cli, client, &ask.command).await?,
        Action::Snapshot { app, subject } => snapshot(cli, client, app, subject).await?,
        Action::Truncate {
            app,
            subject,
            through,
        } => {
            let at = format!("{}?through={through}", path(app, subject));
            let answer: Value = client.delete(&at).await?;
            match cli.json {
                true => show::json(&answer)?,
                false => anstream::println!(
                    "the stream of {subject} begins behind version {through} from now on"
                ),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(app: &str, subject: &str) -> String {
    format!("/v1/streams/{}/{}", segment(app), segment(subject))
}

fn list(cli: &Cli, answer: &Value) -> Result<()> {
    if cli.json {
        return show::json(answer);
    }
    let rows = answer["streams"].as_array().into_iter().flatten();
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let rows = rows.map(|row| {
        vec![
            text(&row["stream"]),
            row["version"].to_string(),
            row["first"].to_string(),
            text(&row["changed_at"]),
        ]
    });
    let titles = ["stream", "version", "first", "changed"];
    show::table(&titles, rows.collect(), "no streams");
    if let Some(next) = answer["next"].as_str() {
        anstream::println!("there are more: --after {next}");
    }
    Ok(())
}

fn read(cli: &Cli, answer: &Value) -> Result<()> {
    if cli.json {
        return show::json(answer);
    }
    if let Some(gone) = answer["gone_through"].as_u64() {
        anstream::println!("events up to version {gone} were taken out");
    }
    if let Some(version) = answer["snapshot"]["version"].as_u64() {
        let data = &answer["snapshot"]["data"];
        anstream::println!("snapshot of version {version}: {data}");
    }
    for row in answer["events"].as_array().into_iter().flatten() {
        let event = &row["event"];
        let field = |name: &str| event[name].as_str().unwrap_or_default();
        let data = event.get("data").map_or_else(String::new, Value::to_string);
        anstream::println!(
            "{:>6} {} {} {} {data}",
            row["version"].to_string(),
            row["published_at"].as_str().unwrap_or_default(),
            field("type"),
            field("id")
        );
    }
    if let Some(next) = answer["next"].as_u64() {
        anstream::println!("there are more: --from {next}");
    }
    Ok(())
}

async fn append(cli: &Cli, client: &Client, ask: &Action) -> Result<()> {
    let Action::Append {
        app,
        subject,
        kind,
        payload,
        expected,
        source,
        id,
    } = ask
    else {
        return Ok(());
    };
    let data: Value = invoke::json_of("--payload", &invoke::read(payload)?)?;
    let event = json!({
        "specversion": "1.0", "type": kind, "source": source, "subject": subject, "id": id, "data": data,
    });
    let asked = query(&[("expected", expected.map(|expected| expected.to_string()))]);
    let body = Bytes::from(serde_json::to_vec(&event)?);
    let at = format!("{}{asked}", path(app, subject));
    let kind = "application/cloudevents+json";
    let response = client.send_as(Method::POST, &at, kind, body).await?;
    let answer: Value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
    if cli.json {
        return show::json(&answer);
    }
    let event = &answer["events"][0];
    anstream::println!(
        "{} is version {} of {subject}, at position {} of the log",
        event["id"].as_str().unwrap_or_default(),
        event["version"],
        event["position"]
    );
    Ok(())
}

/// The snapshot as it is; with --json what it says of itself, too.
async fn snapshot(cli: &Cli, client: &Client, app: &str, subject: &str) -> Result<()> {
    if cli.json {
        let at = format!("{}?from=snapshot&limit=1", path(app, subject));
        let answer: Value = client.get(&at).await?;
        return show::json(&answer["snapshot"]);
    }
    let at = format!("{}/snapshot", path(app, subject));
    let response = client.send(Method::GET, &at, Bytes::new()).await?;
    let body = response.into_body().collect().await?.to_bytes();
    std::io::stdout().write_all(&body)?;
    Ok(())
}
