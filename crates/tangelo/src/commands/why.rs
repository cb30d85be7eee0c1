//! `tangelo events explain`: why an event matches a pattern or not. Decided here, so that it needs a server only for what is
//! deployed or in its log.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{ArgGroup, Args};
use model::code;
use pattern::{Explanation, Failure, Pattern};
use serde_json::{Value, json};

use super::{Cli, invoke, subscriptions};
use crate::{
    client::{Client, query},
    failure::Coded,
    show,
};

/// A pattern and an event, each from one place
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which_pattern").required(true), group = ArgGroup::new("which_event").required(true))]
pub(crate) struct Explain {
    /// A file with an event pattern in JSON, or `-`
    #[arg(long, group = "which_pattern", value_name = "FILE")]
    pattern: Option<PathBuf>,
    /// The pattern of a deployed subscription: app/workload/name
    #[arg(long, group = "which_pattern", value_name = "NAME")]
    subscription: Option<String>,
    /// A file with an event in JSON (a CloudEvent, EventBridge's envelope or any object), or `-`
    #[arg(long, group = "which_event", value_name = "FILE")]
    event: Option<PathBuf>,
    /// The event of the log at this position
    #[arg(long, group = "which_event", value_name = "N")]
    position: Option<u64>,
    /// The newest event of the log with this id
    #[arg(long, group = "which_event", value_name = "ID")]
    id: Option<String>,
    /// Of this source, when several have the id
    #[arg(long, requires = "id")]
    source: Option<String>,
    /// Explain every way of a pattern with `$or`, not only the nearest
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(cli: &Cli, client: &Client, ask: &Explain) -> Result<ExitCode> {
    let pattern = pattern_of(client, ask).await?;
    let event = event_of(client, ask).await?;
    let explained = pattern.explain(&event);
    if cli.json {
        let mut answer = explained.to_json();
        answer["event"] = event;
        show::json(&answer)?;
    } else {
        anstream::print!("{}", text(&explained, ask.all));
    }
    Ok(if explained.matches {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn pattern_of(client: &Client, ask: &Explain) -> Result<Pattern> {
    if let Some(subscription) = &ask.subscription {
        let path = format!("{}/filter", subscriptions::path(subscription)?);
        let answer: Value = client.get(&path).await?;
        return Pattern::compile(&answer["filter"]).coded(code::ANOTHER_SERVER, || {
            format!("the filter of {subscription} is no event pattern")
        });
    }
    let (name, text) = read(ask.pattern.as_ref())?;
    Pattern::parse(&text).coded(code::BAD_FILTER, || format!("{name} is no event pattern"))
}

async fn event_of(client: &Client, ask: &Explain) -> Result<Value> {
    let path = match (ask.position, &ask.id) {
        (Some(position), _) => format!("/v1/events/{position}"),
        (None, Some(id)) => {
            let which = [("id", Some(id.clone())), ("source", ask.source.clone())];
            format!("/v1/events/find{}", query(&which))
        }
        (None, None) => {
            let (name, text) = read(ask.event.as_ref())?;
            return invoke::json_of(&name, &text);
        }
    };
    let mut answer: Value = client.get(&path).await?;
    Ok(answer["event"].take())
}

/// A file's name and text; clap has seen to it that there is one.
fn read(file: Option<&PathBuf>) -> Result<(String, String)> {
    let name = file
        .map(|file| file.display().to_string())
        .unwrap_or_default();
    let from = match name.as_str() {
        "-" => "-".to_owned(),
        file => format!("@{file}"),
    };
    Ok((name, invoke::read(&from)?))
}

fn text(explained: &Explanation, all: bool) -> String {
    if explained.matches {
        return "the event matches\n".to_owned();
    }
    let mut text = "the event does not match\n".to_owned();
    let shown = if all { explained.ways.len() } else { 1 };
    for (index, failures) in explained.ways.iter().take(shown).enumerate() {
        if shown > 1 {
            text.push_str(&format!(
                "way {} of {}:\n",
                index + 1,
                explained.ways_in_all
            ));
        }
        failures
            .iter()
            .for_each(|failure| text.push_str(&lines(failure)));
    }
    let others = explained.ways_in_all.saturating_sub(shown);
    if others > 0 {
        let note = if all { "" } else { " (--all shows them)" };
        text.push_str(&format!(
            "that is the nearest; {others} other ways fail, too{note}\n"
        ));
    }
    text
}

fn lines(failure: &Failure) -> String {
    let found = match failure.found.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.to_string(),
        several => json!(several).to_string(),
    };
    format!(
        "  {}: {}\n    found    {found}\n    expected {}\n    asked at {}\n",
        failure.field,
        failure.reason,
        failure.expected.join(", or "),
        failure.pointer,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_shown_with_what_was_found() {
        let pattern = json!({"$or": [{"a": [1, 2], "c": [3]}, {"b": [{"prefix": "x"}]}]});
        let pattern = Pattern::compile(&pattern).expect("a pattern");
        let explained = pattern.explain(&json!({"a": "1", "b": ["y", "z"]}));
        assert_eq!(
            text(&explained, false),
            "the event does not match\n  b: none of the 2 values passes\n    found    [\"y\",\"z\"]\n    \
             expected a text that begins with \"x\"\n    asked at /$or/1/b\n\
             that is the nearest; 1 other ways fail, too (--all shows them)\n"
        );
        let whole = text(&explained, true);
        assert!(
            whole.contains("way 2 of 2:\n  a: it is a text, not a number\n    found    \"1\"\n")
        );
        assert!(whole.contains("  c: there is no such field\n    found    nothing\n"));
        assert_eq!(
            text(&pattern.explain(&json!({"b": "xy"})), false),
            "the event matches\n"
        );
    }
}
