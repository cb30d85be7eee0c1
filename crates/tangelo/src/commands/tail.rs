//! `tangelo events tail`: what is in the log, and what comes into it.

use std::{collections::VecDeque, time::Duration};

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::Cli;
use crate::client::{Client, query};

/// How often the log is looked at for new events.
const LOOK: Duration = Duration::from_millis(300);
/// Positions in one question; the server answers for 500 at most.
const PAGE: u64 = 200;
/// How many of the newest are shown unless said.
const NEWEST: usize = 20;

/// Which events of the log.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Only of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// From after this position on, oldest first; the newest ones unless given
    #[arg(long)]
    after: Option<u64>,
    /// So many: of the newest [default: 20], or from --after on [default: all]
    #[arg(short = 'n', long)]
    limit: Option<usize>,
    /// Go on as events are published; with --after and -n until there were so many
    #[arg(short, long)]
    follow: bool,
}

/// A part of the log: its events, and up to where it was looked at.
struct Part {
    events: Vec<Value>,
    through: u64,
    head: u64,
}

pub(super) async fn run(cli: &Cli, client: &Client, which: &Which) -> Result<()> {
    let log = Log { client, which };
    let (mut after, mut left) = match which.after {
        Some(after) => (after, which.limit),
        None => {
            let newest = which.limit.unwrap_or(NEWEST);
            let (events, head) = log.newest(newest).await?;
            events.iter().try_for_each(|event| line(cli, event))?;
            if !which.follow {
                return Ok(());
            }
            (head, None)
        }
    };
    loop {
        let part = log.part(after, None).await?;
        for event in part.events.iter().take(left.unwrap_or(usize::MAX)) {
            line(cli, event)?;
        }
        left = left.map(|left| left.saturating_sub(part.events.len()));
        let at_end = part.through >= part.head;
        if left == Some(0) || at_end && !which.follow {
            return Ok(());
        }
        after = part.through;
        if at_end {
            model::Clock::system().sleep(LOOK).await;
        }
    }
}

/// The log as one look asks for it.
struct Log<'a> {
    client: &'a Client,
    which: &'a Which,
}

impl Log<'_> {
    /// What comes after a position, in one answer: as much as the server gives.
    async fn part(&self, after: u64, through: Option<u64>) -> Result<Part> {
        let ask = query(&[
            ("after", Some(after.to_string())),
            ("through", through.map(|through| through.to_string())),
            ("type", self.which.kind.clone()),
            ("limit", Some(PAGE.to_string())),
        ]);
        let mut answer: Value = self.client.get(&format!("/v1/events{ask}")).await?;
        let events = match answer["events"].take() {
            Value::Array(events) => events,
            _ => Vec::new(),
        };
        let number = |name: &str| answer[name].as_u64().unwrap_or_default();
        Ok(Part {
            events,
            through: number("through"),
            head: number("head"),
        })
    }

    /// The newest `most`, oldest first, and the position of the last one that there is. They are looked for from the end backwards, in
    /// parts that grow where there is little.
    async fn newest(&self, most: usize) -> Result<(VecDeque<Value>, u64)> {
        // Nothing comes after the last position that there may be; the answer says where the log ends.
        let head = self.part(i64::MAX.unsigned_abs(), None).await?.head;
        let (mut found, mut through, mut width) = (VecDeque::new(), head, PAGE);
        while through > 0 && found.len() < most {
            let before = through.saturating_sub(width);
            let (mut after, mut part) = (before, Vec::new());
            while after < through {
                let mut next = self.part(after, Some(through)).await?;
                part.append(&mut next.events);
                after = next.through.max(after + 1);
            }
            if part.is_empty() {
                width = width.saturating_mul(2);
            }
            let wanted = part.into_iter().rev().take(most - found.len());
            wanted.for_each(|event| found.push_front(event));
            through = before;
        }
        Ok((found, head))
    }
}

fn line(cli: &Cli, row: &Value) -> Result<()> {
    if cli.json {
        anstream::println!("{}", serde_json::to_string(row)?);
        return Ok(());
    }
    let event = &row["event"];
    let field = |name: &str| event[name].as_str().unwrap_or_default();
    let at = row["published_at"].as_u64().map(model::Time);
    let at = at.map_or_else(String::new, model::Time::rfc3339);
    let data = event.get("data").map_or_else(String::new, Value::to_string);
    anstream::println!(
        "{:>8} {at} {} {} {} {data}",
        row["position"],
        field("type"),
        field("source"),
        field("id")
    );
    Ok(())
}
