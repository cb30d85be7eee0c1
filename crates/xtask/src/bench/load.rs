//! Load by wrk, and what it costs the side that serves it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::{cpu, process};
use crate::{server::Server, shell};

/// Kept connections.
const CONNECTIONS: &str = "64";

/// wrk's script of requests that publish, in `folder`.
pub(super) fn publishing(folder: &Path) -> anyhow::Result<PathBuf> {
    let script = folder.join("publish.lua");
    fs::write(&script, include_str!("publish.lua"))?;
    Ok(script)
}

/// What one round showed.
pub(super) struct Round {
    /// All of them.
    pub(super) requests: f64,
    /// Requests for each CPU second of the side that served them.
    pub(super) per_cpu_second: f64,
    /// Requests for each second of the clock.
    pub(super) per_second: f64,
    /// Milliseconds within which 99 of 100 were answered.
    pub(super) p99: f64,
}

/// Deliveries that have not ended.
///
/// # Errors
/// When the server has no subscription, and so nothing to deliver.
pub(super) fn undelivered(server: &Server) -> anyhow::Result<u64> {
    let rows = server.subscriptions()?;
    ensure!(!rows.is_empty(), "there is no subscription");
    let counts = ["backlog", "in_flight", "retrying"];
    let of = |row: &Value| -> u64 { counts.iter().filter_map(|name| row[*name].as_u64()).sum() };
    Ok(rows.iter().map(of).sum())
}

/// Puts load on `url` for `seconds` and sees what it costs the family of `pid`.
///
/// # Errors
/// When any request failed: then the figure would be worth nothing.
pub(super) fn round(url: &str, pid: u32, seconds: u64) -> anyhow::Result<Round> {
    let (round, output) = put(&[url], CONNECTIONS, pid, seconds)?;
    if let Some(line) = output.lines().find(|line| line.contains(FAILED)) {
        bail!("some requests failed: {}", line.trim());
    }
    Ok(round)
}

/// The same for what is to be refused.
///
/// # Errors
/// When any request was served.
pub(super) fn refused(url: &str, pid: u32, seconds: u64) -> anyhow::Result<Round> {
    let (round, output) = put(&[url], CONNECTIONS, pid, seconds)?;
    let line = output.lines().find(|line| line.contains(FAILED));
    let failed = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    ensure!(
        failed.is_some_and(|failed| (failed - round.requests).abs() < 1.0),
        "not all were refused: {output}"
    );
    Ok(round)
}

/// The same as [`round`] on so many connections, with requests that a script of wrk's makes, which gets `argument`.
/// Also the milliseconds within which half of them were answered.
///
/// # Errors
/// As [`round`].
pub(super) fn scripted(
    url: &str,
    connections: usize,
    (script, argument): (&Path, &str),
    pid: u32,
    seconds: u64,
) -> anyhow::Result<(Round, f64)> {
    let script = script.to_str().context("a path in UTF-8")?;
    let arguments = ["-s", script, url, "--", argument];
    let (round, output) = put(&arguments, &connections.to_string(), pid, seconds)?;
    if let Some(line) = output.lines().find(|line| line.contains(FAILED)) {
        bail!("some requests failed: {}", line.trim());
    }
    let half = percentile(&output, "50%").context("wrk says the median")?;
    Ok((round, half))
}

/// What wrk says of answers other than 2xx and 3xx.
const FAILED: &str = "Non-2xx";

fn put(
    arguments: &[&str],
    connections: &str,
    pid: u32,
    seconds: u64,
) -> anyhow::Result<(Round, String)> {
    let before = cpu::seconds(pid)?;
    let duration = format!("-d{seconds}s");
    let mut wrk = process::clean("wrk");
    let output = shell::output(
        wrk.args(["-t1", "--latency", "-c", connections, &duration])
            .args(arguments),
    )
    .context("wrk is needed: apt install wrk")?;
    let used = cpu::seconds(pid)? - before;
    let (requests, per_second, p99) = parse(&output)?;
    let round = Round {
        requests,
        per_cpu_second: requests / used,
        per_second,
        p99,
    };
    Ok((round, output))
}

/// Requests, requests per second, and the 99th percentile in milliseconds.
fn parse(output: &str) -> anyhow::Result<(f64, f64, f64)> {
    if let Some(line) = output.lines().find(|line| line.contains("Socket errors")) {
        bail!("some requests failed: {}", line.trim());
    }
    let number = |find: &str, from_end: bool| {
        let line = output.lines().find(|line| line.contains(find))?;
        let mut words = line.split_whitespace();
        let word = if from_end {
            words.next_back()
        } else {
            words.next()
        };
        word?.parse::<f64>().ok()
    };
    let requests = number(" requests in ", false);
    let per_second = number("Requests/sec:", true);
    let p99 = percentile(output, "99%");
    requests
        .zip(per_second)
        .zip(p99)
        .map(|((requests, per_second), p99)| (requests, per_second, p99))
        .with_context(|| format!("wrk said something else: {output}"))
}

fn percentile(output: &str, share: &str) -> Option<f64> {
    let mut lines = output.lines();
    lines.find_map(|line| millis(line.trim().strip_prefix(share)?))
}

/// `870.00us`, `1.23ms` or `2.10s`.
fn millis(text: &str) -> Option<f64> {
    let text = text.trim();
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)];
    units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_wrk_says_is_read() {
        let good =
            "     99%    1.50ms\n  1200 requests in 10.00s, 1MB read\nRequests/sec:    119.9\n";
        assert_eq!(parse(good).ok(), Some((1200.0, 119.9, 1.5)));
        assert_eq!(super::millis(" 870.00us"), Some(0.87));
        assert!(parse(&format!("  Socket errors: connect 1\n{good}")).is_err());
        assert!(parse("nothing").is_err());
    }
}
