//! A trace as a tree for people: who called whom, when, for how long, what failed, and what they wrote meanwhile.
//!
//! 100 columns. Texts from workloads lose their control characters, so that no line of a log can move a cursor.

mod forest;
mod line;
mod paint;

use model::{Time, units::display_duration};

use crate::query::Trace;
use forest::{Entry, Forest};
use line::{Frame, WIDTH};
use paint::{Colour, Paint};

/// The tree of a trace, without colours.
#[must_use]
pub fn tree(trace: &Trace) -> String {
    draw(trace, Paint::Plain)
}

/// The tree of a trace with ANSI colours, for a terminal.
#[must_use]
pub fn tree_coloured(trace: &Trace) -> String {
    draw(trace, Paint::Ansi)
}

fn draw(trace: &Trace, paint: Paint) -> String {
    let frame = Frame::of(trace, paint);
    let mut out = header(trace, paint);
    let forest = Forest::of(trace);
    for entry in forest.entries() {
        out.push('\n');
        match entry {
            Entry::Span(node) => out.push_str(&frame.span(&node)),
            Entry::ColdStart(node, phases) => out.push_str(&frame.cold_start(&node, &phases)),
            Entry::Error(text, stem) => out.push_str(&frame.error(text, &stem)),
            Entry::Log(log, stem) => out.push_str(&frame.log(log, &stem)),
            Entry::More(text, stem) => out.push_str(&frame.more(&text, &stem)),
        }
    }
    out.push('\n');
    out
}

fn header(trace: &Trace, paint: Paint) -> String {
    let (start, end) = extent(trace);
    let failed = trace.spans.iter().filter(|s| s.error.is_some()).count();
    let mut facts = vec![
        display_duration(end.since(start)),
        counted(trace.spans.len(), "span"),
    ];
    if !trace.logs.is_empty() {
        facts.push(counted(trace.logs.len(), "line"));
    }
    if failed > 0 {
        facts.push(paint.with(Colour::Red, &format!("{failed} failed")));
    }
    format!(
        "{} {} · {}\n{}\n{}",
        paint.with(Colour::Bold, "trace"),
        trace.id,
        clock_time(start),
        facts.join(" · "),
        paint.with(Colour::Dim, &"─".repeat(WIDTH)),
    )
}

/// From the first span to the end of the last; of the lines where there are no spans.
fn extent(trace: &Trace) -> (Time, Time) {
    let of_spans = trace.spans.iter().map(|s| (s.start, s.end));
    let of_logs = trace.logs.iter().map(|log| (log.time, log.time));
    let earliest_and_latest = |a: (Time, Time), b: (Time, Time)| (a.0.min(b.0), a.1.max(b.1));
    let of_logs = || of_logs.reduce(earliest_and_latest);
    of_spans
        .reduce(earliest_and_latest)
        .or_else(of_logs)
        .unwrap_or_default()
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Date and time of day in UTC, to the millisecond: `2026-11-21 08:55:00.123`.
fn clock_time(time: Time) -> String {
    let text = time.rfc3339().replace('T', " ");
    text.get(..23).unwrap_or(&text).to_owned()
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
