//! One line of a tree: stem, name and tags on the left, then when it began, how long it took, and a bar on the
//! time line of the trace.

use std::time::Duration;

use model::{Time, units::display_duration};

use super::{
    forest::{Node, phase_name},
    paint::{Colour, Paint},
};
use crate::{
    log::{LogRecord, LogStream},
    query::Trace,
    span::{Span, SpanKind},
};

/// Columns of a line.
pub(super) const WIDTH: usize = 100;
/// Columns of stem, name and tags; of an instant; of a duration; of the bar. With two gaps of one and one of two.
const LEFT: usize = 52;
const INSTANT: usize = 9;
const DURATION: usize = 9;
const BAR: usize = WIDTH - LEFT - INSTANT - DURATION - 4;
/// Columns that a stem may take.
const STEM: usize = 30;

/// What all lines of a tree share.
pub(super) struct Frame {
    start: Time,
    end: Time,
    paint: Paint,
}

/// Text of a known width: what is painted takes no columns.
struct Piece {
    painted: String,
    columns: usize,
}

impl Frame {
    pub(super) fn of(trace: &Trace, paint: Paint) -> Self {
        let (start, end) = super::extent(trace);
        Self { start, end, paint }
    }

    pub(super) fn span(&self, node: &Node<'_>) -> String {
        let span = node.span;
        let name_colour = if span.error.is_some() {
            Colour::Red
        } else {
            Colour::Bold
        };
        let mut left = self.stem(&node.branch);
        let name = clean(&span.name);
        left.add(&cut(&name, LEFT - left.columns), name_colour, self.paint);
        for (tag, colour) in tags(node) {
            let room = LEFT.saturating_sub(left.columns + 2);
            if room > 3 {
                left.add("  ", Colour::Dim, self.paint);
                left.add(&cut(&tag, room), colour, self.paint);
            }
        }
        let colour = match (&span.error, tier(span)) {
            (Some(_), _) => Colour::Red,
            (None, Some("function")) => Colour::Cyan,
            (None, Some("service")) => Colour::Green,
            (None, _) => Colour::Blue,
        };
        self.timed(left, span.start, span.end, colour)
    }

    /// A cold start with its phases: behind its name where they fit, else on a line below.
    pub(super) fn cold_start(&self, node: &Node<'_>, phases: &[&Span]) -> String {
        let parts: Vec<String> = phases
            .iter()
            .map(|p| format!("{} {}", phase_name(p), display_duration(p.duration())))
            .collect();
        let parts = parts.join(" · ");
        let start = phases.iter().map(|p| p.start).min().unwrap_or_default();
        let end = phases.iter().map(|p| p.end).max().unwrap_or_default();
        let mut left = self.stem(&node.branch);
        left.add("cold start", Colour::Yellow, self.paint);
        if left.columns + 2 + parts.chars().count() <= LEFT {
            left.add(&format!("  {parts}"), Colour::Dim, self.paint);
            return self.timed(left, start, end, Colour::Yellow);
        }
        let mut below = self.stem(&format!("{}  ", node.trunk()));
        let room = WIDTH - below.columns;
        below.add(&cut(&parts, room), Colour::Dim, self.paint);
        format!(
            "{}\n{}",
            self.timed(left, start, end, Colour::Yellow),
            below.painted
        )
    }

    pub(super) fn error(&self, text: &str, stem: &str) -> String {
        let mut line = self.stem(stem);
        let room = WIDTH - line.columns - 2;
        line.add(
            &format!("✗ {}", cut(&clean(text), room)),
            Colour::Red,
            self.paint,
        );
        line.painted
    }

    pub(super) fn log(&self, log: &LogRecord, stem: &str) -> String {
        let mut line = self.stem(stem);
        let (mark, colour) = match log.stream {
            LogStream::Stdout => ("›", Colour::Dim),
            LogStream::Stderr => ("»", Colour::Yellow),
            LogStream::Platform => ("∙", Colour::Blue),
        };
        line.add(mark, colour, self.paint);
        let when = format!(" {:>8} ", self.instant(log.time));
        line.add(&when, Colour::Dim, self.paint);
        let room = WIDTH - line.columns;
        line.painted.push_str(&cut(&clean(&log.text), room));
        line.painted
    }

    pub(super) fn more(&self, text: &str, stem: &str) -> String {
        let mut line = self.stem(stem);
        let room = WIDTH - line.columns - 2;
        line.add(&format!("… {}", cut(text, room)), Colour::Dim, self.paint);
        line.painted
    }

    /// The stem; a very deep one loses its beginning.
    fn stem(&self, stem: &str) -> Piece {
        let mut piece = Piece {
            painted: String::new(),
            columns: 0,
        };
        let columns = stem.chars().count();
        let shown: String = if columns > STEM {
            let tail = stem.chars().skip(columns - STEM + 1);
            std::iter::once('⋯').chain(tail).collect()
        } else {
            stem.to_owned()
        };
        piece.add(&shown, Colour::Dim, self.paint);
        piece
    }

    fn timed(&self, left: Piece, start: Time, end: Time, colour: Colour) -> String {
        let gap = " ".repeat(LEFT.saturating_sub(left.columns));
        let instant = format!("{:>INSTANT$}", self.instant(start));
        let took = format!("{:>DURATION$}", display_duration(end.since(start)));
        let bar = self.bar(start, end);
        format!(
            "{}{gap} {} {took}  {}",
            left.painted,
            self.paint.with(Colour::Dim, &instant),
            self.paint.with(colour, &bar),
        )
    }

    fn instant(&self, time: Time) -> String {
        if time >= self.start {
            format!("+{}", display_duration(time.since(self.start)))
        } else {
            format!("-{}", display_duration(self.start.since(time)))
        }
    }

    /// A bar in eighths of a column; what is shorter than an eighth still shows.
    fn bar(&self, start: Time, end: Time) -> String {
        const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let total = self
            .end
            .since(self.start)
            .max(Duration::from_micros(1))
            .as_secs_f64();
        let columns = BAR as f64;
        let at = |time: Time| time.since(self.start).as_secs_f64() / total * columns;
        let from = (at(start) as usize).min(BAR - 1);
        let eighths = ((at(end) - from as f64) * 8.0)
            .round()
            .clamp(1.0, ((BAR - from) * 8) as f64) as usize;
        format!(
            "{}{}{}",
            " ".repeat(from),
            "█".repeat(eighths / 8),
            EIGHTHS[eighths % 8]
        )
    }
}

impl Piece {
    fn add(&mut self, text: &str, colour: Colour, paint: Paint) {
        self.columns += text.chars().count();
        self.painted.push_str(&paint.with(colour, text));
    }
}

/// What stands behind the name: the answer, who it was, how it came to be.
fn tags(node: &Node<'_>) -> Vec<(String, Colour)> {
    let span = node.span;
    let mut tags = Vec::new();
    if let Some(status) = span.attributes.int("http.response.status_code") {
        let colour = if status >= 400 {
            Colour::Red
        } else {
            Colour::Green
        };
        tags.push((status.to_string(), colour));
    }
    match (tier(span), span.attributes.text("tangelo.runtime")) {
        (Some(tier), Some(runtime)) => tags.push((format!("{tier} {runtime}"), Colour::Dim)),
        (Some(tier), None) => tags.push((tier.to_owned(), Colour::Dim)),
        (None, _) => tags.extend(who(node).map(|who| (who, Colour::Dim))),
    }
    if let Some(attempt) = span.attributes.int("tangelo.attempt").filter(|n| *n > 1) {
        tags.push((format!("attempt {attempt}"), Colour::Yellow));
    }
    if span.kind == SpanKind::Consumer {
        let via = span
            .attributes
            .text("messaging.destination.subscription.name");
        let what = span.attributes.text("messaging.destination.name").or(via);
        tags.extend(what.map(|what| (format!("← {}", clean(what)), Colour::Blue)));
    }
    tags
}

/// Whose span it is, where the line above does not say so already.
fn who(node: &Node<'_>) -> Option<String> {
    let service = node.span.service();
    if service.is_none() && node.span.kind == SpanKind::Server {
        return Some("gateway".to_owned());
    }
    service.filter(|service| Some(service) != node.parent.and_then(Span::service).as_ref())
}

fn tier(span: &Span) -> Option<&str> {
    span.attributes.text("tangelo.tier")
}

/// The text without what could move a cursor or change a colour.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => skip_escape(&mut rest),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Reads over the rest of an ANSI sequence (ECMA-48 §5.4): up to its final byte.
fn skip_escape(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    if ahead.next() != Some('[') {
        return;
    }
    *rest = ahead;
    for c in rest.by_ref() {
        if ('@'..='~').contains(&c) {
            return;
        }
    }
}

/// At most `columns` characters, with `…` for what is missing.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{kept}…")
}
