//! `tangelo dead-letters`: deliveries that were given up.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Cli, invoke};
use crate::{
    client::{Client, query},
    show,
};

/// Look at deliveries that were given up
#[derive(Debug, Args)]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    command: Option<Action>,
    /// Only of this subscription: app/workload/name
    #[arg(long, global = true)]
    subscription: Option<String>,
    /// Only of this app
    #[arg(long, global = true)]
    app: Option<String>,
    /// Only with events of this type
    #[arg(long = "type", global = true, value_name = "TYPE")]
    kind: Option<String>,
    /// Only those given up with this code, such as TG0409
    #[arg(long, global = true)]
    code: Option<String>,
    /// At most this many
    #[arg(short = 'n', long, default_value = "100")]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show one with its event and every attempt
    Show {
        /// Its number
        #[arg(value_parser = number)]
        id: u64,
    },
    /// Deliver one again, or all with --all
    Redrive {
        /// Its number
        #[arg(value_parser = number)]
        id: Option<u64>,
        /// All of them, as far as --subscription, --app, --type and --code say; those of a key in order
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// No faster than this, such as 10/s: goes on by itself, over restarts (`tangelo events jobs`)
        #[arg(long, requires = "all")]
        rate: Option<String>,
    },
    /// Give the event of one other data; redrive it then
    Edit {
        /// Its number
        #[arg(value_parser = number)]
        id: u64,
        /// The data: JSON, `@FILE`, or `-` for standard input
        #[arg(short = 'd', long, value_name = "JSON")]
        payload: String,
    },
    /// Throw one away, or all with --all
    Discard {
        /// Its number
        #[arg(value_parser = number)]
        id: Option<u64>,
        /// All of them, as far as --subscription, --app, --type and --code say
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
}

impl DeadLetters {
    /// What of all of them an action is for.
    fn which(&self) -> Value {
        json!({"subscription": self.subscription, "app": self.app, "type": self.kind, "code": self.code})
    }
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &DeadLetters) -> Result<ExitCode> {
    let filter = [
        ("subscription", ask.subscription.clone()),
        ("app", ask.app.clone()),
        ("type", ask.kind.clone()),
        ("code", ask.code.clone()),
        ("limit", Some(ask.limit.to_string())),
    ];
    let answer: Value = match &ask.command {
        None => {
            return list(
                cli,
                client
                    .get(&format!("/v1/dead-letters{}", query(&filter)))
                    .await?,
            );
        }
        Some(Action::Show { id }) => client.get(&format!("/v1/dead-letters/{id}")).await?,
        Some(Action::Redrive { id: Some(id), .. }) => {
            client
                .post(&format!("/v1/dead-letters/{id}/redrive"), &json!({}))
                .await?
        }
        Some(
            Action::Redrive {
                id: None,
                all: false,
                ..
            }
            | Action::Discard {
                id: None,
                all: false,
            },
        ) => fail!(
            BAD_ARGUMENT,
            "say which: the number of one, or --all, which --subscription, --app, --type and --code narrow down"
        ),
        Some(Action::Redrive { id: None, rate, .. }) => {
            let mut which = ask.which();
            which["rate"] = json!(rate);
            client.post("/v1/dead-letters/redrive", &which).await?
        }
        Some(Action::Edit { id, payload }) => {
            let data: Value = invoke::json_of("--payload", &invoke::read(payload)?)?;
            let path = format!("/v1/dead-letters/{id}");
            client.patch(&path, &json!({ "data": data })).await?
        }
        Some(Action::Discard { id: Some(id), .. }) => {
            client.delete(&format!("/v1/dead-letters/{id}")).await?
        }
        Some(Action::Discard { id: None, .. }) => {
            client
                .post("/v1/dead-letters/discard", &ask.which())
                .await?
        }
    };
    match &ask.command {
        Some(Action::Redrive { .. } | Action::Discard { .. } | Action::Edit { .. })
            if !cli.json =>
        {
            anstream::println!("{}", done(&answer));
        }
        _ => show::json(&answer)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of dead letters, in words.
fn done(answer: &Value) -> String {
    let letters = |n: u64| match n {
        0 => "no dead letter".to_owned(),
        1 => "1 dead letter".to_owned(),
        n => format!("{n} dead letters"),
    };
    if let Some(job) = answer["job"].as_u64() {
        return format!(
            "they will be delivered again: `tangelo events jobs` shows how far job {job} is"
        );
    }
    if let Some(id) = answer["edited"].as_u64() {
        return format!(
            "dead letter {id} has other data: `tangelo dead-letters redrive {id}` delivers it"
        );
    }
    match (answer["redriven"].as_u64(), answer["discarded"].as_u64()) {
        (Some(0), _) => "there is no dead letter to deliver again".to_owned(),
        (Some(n), _) => format!("{} will be delivered again", letters(n)),
        (_, n) => format!("{} thrown away", letters(n.unwrap_or_default())),
    }
}

/// A dead letter's number, as the list has it.
fn number(text: &str) -> Result<u64, String> {
    let number = text.parse();
    number.map_err(|_| "expected a number from `tangelo dead-letters`".to_owned())
}

fn list(cli: &Cli, answer: Value) -> Result<ExitCode> {
    if cli.json {
        show::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let rows = answer["dead_letters"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|letter| {
            let reason = &letter["reason"]["message"];
            let columns = ["id", "subscription", "type", "attempts"].map(|column| &letter[column]);
            columns
                .into_iter()
                .chain([reason, &letter["trace"]])
                .map(text)
                .collect()
        });
    show::table(
        &["id", "subscription", "type", "attempts", "reason", "trace"],
        rows.collect(),
        "no dead letters",
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_them_is_said_in_words() {
        for (answer, words) in [
            (
                json!({"redriven": 1}),
                "1 dead letter will be delivered again",
            ),
            (
                json!({"redriven": 3}),
                "3 dead letters will be delivered again",
            ),
            (
                json!({"redriven": 0}),
                "there is no dead letter to deliver again",
            ),
            (json!({"discarded": 1}), "1 dead letter thrown away"),
            (json!({"discarded": 0}), "no dead letter thrown away"),
            (
                json!({"job": 7}),
                "they will be delivered again: `tangelo events jobs` shows how far job 7 is",
            ),
        ] {
            assert_eq!(done(&answer), words);
        }
        assert_eq!(number("7"), Ok(7));
        assert!(number("x").is_err_and(|told| told.contains("tangelo dead-letters")));
    }
}
