//! What the command line prints: tables and JSON on stdout, progress and errors on stderr.

use std::io::IsTerminal;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::Told;

/// The server's own log, on stderr: quiet unless asked.
pub(crate) fn start_logging(verbose: bool) {
    let default = if verbose {
        "debug,hyper=info,h2=info,wasmtime=info,cranelift=info,rustls=info,rskafka=warn"
    } else {
        // What bridges wait for they say themselves, once.
        "warn,rskafka=off"
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("TANGELO_LOG")
        .unwrap_or_else(|_| default.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// A failure with what led to it, on stderr: one below another, or a line of JSON.
pub(crate) fn error(error: &anyhow::Error, in_json: bool) {
    let told = Told::of(error);
    match serde_json::to_string(&told) {
        Ok(line) if in_json => anstream::eprintln!("{line}"),
        _ => anstream::eprintln!("{told}"),
    }
}

/// One JSON document on stdout.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    anstream::println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// What a command did: the server's answer where JSON is wanted, else `text`.
pub(crate) fn said(in_json: bool, answer: &impl Serialize, text: &str) -> anyhow::Result<()> {
    if in_json {
        return json(answer);
    }
    anstream::println!("{text}");
    Ok(())
}

/// A table on stdout; `nothing` when there are no rows.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>, nothing: &str) {
    if rows.is_empty() {
        anstream::println!("{nothing}");
        return;
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.iter().map(|h| h.to_uppercase()));
    rows.into_iter().for_each(|row| {
        table.add_row(row);
    });
    anstream::println!("{table}");
}
