//! What there is of the log of events, by app, and who still needs some of it.

use anyhow::Result;
use model::{ByteSize, Time, units::display_duration};
use serde_json::Value;

use super::Cli;
use crate::show;

/// `tangelo events status`.
pub(crate) fn show(cli: &Cli, answer: &Value) -> Result<()> {
    if cli.json {
        return show::json(answer);
    }
    for log in answer["logs"].as_array().into_iter().flatten() {
        anstream::println!("{}", line(log));
        let rows = log["apps"].as_array().into_iter().flatten().map(|app| {
            let bytes = |name: &str| ByteSize(app[name].as_u64().unwrap_or_default()).to_string();
            vec![
                app["app"].as_str().unwrap_or("(no app)").to_owned(),
                app["events"].to_string(),
                bytes("bytes"),
                bytes("in_streams"),
                keeps(&app["keeps"]),
            ]
        });
        let titles = ["app", "events", "size", "in streams", "keeps"];
        show::table(&titles, rows.collect(), "nothing was published");
        let held = log["held"].as_array().into_iter().flatten();
        let rows = held.map(|one| {
            let by = one["by"].as_str().unwrap_or_default().to_owned();
            vec![by, one["after"].to_string()]
        });
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() {
            show::table(&["held by", "needs all after"], rows, "");
        }
    }
    Ok(())
}

/// A log in a line; also below `tangelo ps`.
pub(crate) fn line(log: &Value) -> String {
    let oldest = log["oldest"].as_u64().map(|at| Time(at).rfc3339());
    let mut line = format!(
        "log: {} events, {}, oldest {}",
        log["events"],
        ByteSize(log["bytes"].as_u64().unwrap_or_default()),
        oldest.unwrap_or_else(|| "-".to_owned())
    );
    if let Some(gone) = log["gone_through"].as_u64().filter(|gone| *gone > 0) {
        line.push_str(&format!("; some up to position {gone} are gone"));
    }
    if let Some(first) = log["held"].as_array().and_then(|held| held.first()) {
        let by = first["by"].as_str().unwrap_or_default();
        line.push_str(&format!("; held after {} by {by}", first["after"]));
    }
    line
}

fn keeps(keeps: &Value) -> String {
    let Ok(retention) = serde_json::from_value::<model::Retention>(keeps.clone()) else {
        return "as is usual".to_owned();
    };
    format!("{}, {}", display_duration(retention.age), retention.bytes)
}
