//! `tangelo events`: the log of events, and replays of it.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Cli, events::Publish, invoke, tail, why};
use crate::{client::Client, show};

/// Look at the log of events, publish, explain, and deliver again what is in it
#[derive(Debug, Args)]
pub(crate) struct Events {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the newest events, and go on as more are published with --follow
    Tail {
        #[command(flatten)]
        which: tail::Which,
    },
    /// Show what there is of the log, by app, and who still needs some of it
    Status,
    /// Publish an event
    Publish(Publish),
    /// Say why an event matches a pattern or not, field by field; the exit code is 1 when it does not
    Explain(why::Explain),
    /// Deliver events of the log to one subscription again, marked with `tangeloreplay`; goes on over restarts
    Replay {
        /// To which: app/workload/name
        subscription: String,
        /// Only those after this position
        #[arg(long)]
        after: Option<u64>,
        /// Only those published from this time on, such as 2026-01-02T03:04:05Z
        #[arg(long)]
        since: Option<String>,
        /// Only those published before this time
        #[arg(long)]
        until: Option<String>,
        /// Only those that match this pattern too: JSON, or `@FILE`
        #[arg(long, value_name = "JSON")]
        filter: Option<String>,
        /// No faster than this, such as 10/s
        #[arg(long)]
        rate: Option<String>,
        /// Only count them
        #[arg(long)]
        dry_run: bool,
    },
    /// Show redrives and replays, and how far they are
    Jobs,
    /// End a redrive or a replay where it is
    Cancel {
        /// Its number
        id: u64,
    },
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Events) -> Result<ExitCode> {
    match &ask.command {
        Action::Publish(publish) => return super::events::publish(cli, client, publish).await,
        Action::Explain(explain) => return why::run(cli, client, explain).await,
        Action::Tail { which } => tail::run(cli, client, which).await?,
        Action::Replay {
            subscription,
            after,
            since,
            until,
            filter,
            rate,
            dry_run,
        } => {
            let filter = filter.as_deref().map(pattern).transpose()?;
            let which = json!({
                "subscription": subscription, "after": after, "since": since, "until": until, "filter": filter, "rate": rate,
                "dry_run": dry_run,
            });
            let answer: Value = client.post("/v1/replays", &which).await?;
            replayed(cli, &answer)?;
        }
        Action::Status => super::log_state::show(cli, &client.get("/v1/log").await?)?,
        Action::Jobs => jobs(cli, &client.get("/v1/jobs").await?)?,
        Action::Cancel { id } => {
            let answer: Value = client.delete(&format!("/v1/jobs/{id}")).await?;
            match (cli.json, answer["cancelled"].as_bool()) {
                (true, _) => show::json(&answer)?,
                (false, Some(true)) => anstream::println!("job {id} ends where it is"),
                (false, _) => anstream::println!("job {id} had ended"),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn pattern(text: &str) -> Result<Value> {
    invoke::json_of("--filter", &invoke::read(text)?)
}

fn replayed(cli: &Cli, answer: &Value) -> Result<()> {
    if cli.json {
        return show::json(answer);
    }
    match (answer["would_deliver"].as_u64(), answer["job"].as_u64()) {
        (Some(count), _) => anstream::println!("{count} events would be delivered again"),
        (None, Some(job)) => anstream::println!(
            "job {job} delivers them again: `tangelo events jobs` shows how far it is"
        ),
        (None, None) => show::json(answer)?,
    }
    if let Some(gone) = answer["gone_through"].as_u64() {
        anstream::println!(
            "some events of that range, up to position {gone}, are no longer in the log"
        );
    }
    Ok(())
}

fn jobs(cli: &Cli, answer: &Value) -> Result<()> {
    if cli.json {
        return show::json(answer);
    }
    let time = |value: &Value| {
        value
            .as_u64()
            .map_or_else(|| "-".to_owned(), |at| model::Time(at).rfc3339())
    };
    let rows = answer["jobs"].as_array().into_iter().flatten().map(|job| {
        let kind = job["spec"].as_object().and_then(|spec| spec.keys().next());
        let state = match (job["cancelled"].as_bool(), job["ended_at"].is_null()) {
            (Some(true), _) => "cancelled",
            (_, true) => "runs",
            (_, false) => "done",
        };
        vec![
            job["id"].to_string(),
            kind.cloned().unwrap_or_default(),
            state.to_owned(),
            job["done"].to_string(),
            job["skipped"].to_string(),
            time(&job["at"]),
            job["by"].as_str().unwrap_or_default().to_owned(),
        ]
    });
    let titles = ["id", "kind", "state", "done", "skipped", "since", "by"];
    show::table(&titles, rows.collect(), "no redrives or replays");
    Ok(())
}
