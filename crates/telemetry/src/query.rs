//! What can be asked of traces and logs, and what is answered.

use std::time::Duration;

use model::{AppName, InvocationId, Time, TraceId, WorkloadName};
use serde::{Deserialize, Serialize};
use store::telemetry::{Part, Rank};

use crate::{
    assembler::{naming, route_of},
    log::LogRecord,
    span::Span,
};

/// Which traces. The default is the latest fifty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceQuery {
    /// Only this one.
    pub id: Option<TraceId>,
    /// Only those with a span of this app.
    pub app: Option<AppName>,
    /// Only those with a span of this workload.
    pub workload: Option<WorkloadName>,
    /// Only those in which something failed.
    pub errors_only: bool,
    /// Only those whose root took at least this long.
    pub min_duration: Duration,
    /// Only those that began then or later.
    pub since: Time,
    /// The latest so many.
    pub limit: usize,
}

impl Default for TraceQuery {
    fn default() -> Self {
        Self {
            id: None,
            app: None,
            workload: None,
            errors_only: false,
            min_duration: Duration::ZERO,
            since: Time(0),
            limit: 50,
        }
    }
}

/// Which lines. The default is the latest thousand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuery {
    /// Only of this app.
    pub app: Option<AppName>,
    /// Only of this workload.
    pub workload: Option<WorkloadName>,
    /// Only of this invocation.
    pub invocation: Option<InvocationId>,
    /// Only of this trace.
    pub trace: Option<TraceId>,
    /// Only those written then or later.
    pub since: Time,
    /// Only those that contain this.
    pub text: Option<String>,
    /// The latest so many.
    pub limit: usize,
}

impl Default for LogQuery {
    fn default() -> Self {
        Self {
            app: None,
            workload: None,
            invocation: None,
            trace: None,
            since: Time(0),
            text: None,
            limit: 1000,
        }
    }
}

impl LogQuery {
    /// Whether `record` is one of those asked for.
    #[must_use]
    pub fn matches(&self, record: &LogRecord) -> bool {
        fn same<T: PartialEq>(asked: Option<&T>, found: Option<&T>) -> bool {
            asked.is_none() || asked == found
        }
        record.time >= self.since
            && same(self.app.as_ref(), Some(&record.app))
            && same(self.workload.as_ref(), Some(&record.workload))
            && same(self.invocation.as_ref(), record.invocation.as_ref())
            && same(self.trace.as_ref(), record.trace.as_ref())
            && self
                .text
                .as_ref()
                .is_none_or(|text| record.text.contains(text))
    }
}

/// Most bytes of a path in the name of a trace.
const MOST_PATH: usize = 80;

/// One line of a list of traces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceSummary {
    /// The trace.
    pub trace: TraceId,
    /// When its first span began.
    pub start: Time,
    /// When its last span ended, deliveries included.
    pub end: Time,
    /// What the one who asked waited for: how long its root took, in microseconds.
    pub duration_us: u64,
    /// The name of its root.
    pub name: String,
    /// The route of its root, where it has one.
    pub route: Option<String>,
    /// Every `app/workload` with a span in it.
    pub workloads: Vec<String>,
    /// How many spans.
    pub spans: u64,
    /// How many of them failed.
    pub errors: u64,
}

/// A trace with all its spans and lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The trace.
    pub id: TraceId,
    /// Its spans, in the order in which they began.
    pub spans: Vec<Span>,
    /// Its lines, in the order in which they were written.
    pub logs: Vec<LogRecord>,
}

impl Trace {
    /// Puts spans and lines in order.
    pub(crate) fn new(id: TraceId, mut spans: Vec<Span>, mut logs: Vec<LogRecord>) -> Self {
        spans.sort_by_key(|span| (span.start, span.parent.is_some(), span.id));
        spans.dedup_by_key(|span| span.id);
        logs.sort_by_key(|log| log.time);
        Self { id, spans, logs }
    }
}

/// The index row of spans of one trace; `None` when there are none.
pub(crate) fn part(trace: TraceId, spans: &[Span]) -> Option<Part> {
    let root = naming(spans)?;
    let mut workloads: Vec<String> = spans.iter().filter_map(Span::service).collect();
    workloads.sort_unstable();
    workloads.dedup();
    Some(Part {
        trace,
        start: spans.iter().map(|s| s.start).min()?,
        last: spans.iter().map(|s| s.end).max()?,
        spans: spans.len() as u64,
        errors: spans.iter().filter(|s| s.error.is_some()).count() as u64,
        rank: match (root.parent, root.local_root) {
            (None, _) => Rank::Root,
            (Some(_), true) => Rank::Local,
            (Some(_), false) => Rank::Inner,
        },
        root_start: root.start,
        root_last: root.end,
        name: shown_name(root),
        route: root
            .attributes
            .get("http.route")
            .map_or_else(String::new, |_| route_of(root).to_owned()),
        workloads: workloads
            .iter()
            .fold("|".to_owned(), |all, one| all + one + "|"),
    })
}

/// The name of a root; what no route took is told by its path, which is no part of a span's name (there is no end of them).
fn shown_name(root: &Span) -> String {
    let path = root.attributes.text("url.path");
    let routed = root.attributes.text("http.route").is_some();
    match path.filter(|path| !routed && !root.name.contains(path)) {
        Some(path) => {
            let cut = &path[..path.floor_char_boundary(MOST_PATH)];
            format!("{} {cut}", root.name)
        }
        None => root.name.to_string(),
    }
}

/// Several parts of one trace as one line; `None` when there are none.
pub(crate) fn summary(parts: &[Part]) -> Option<TraceSummary> {
    let named = parts
        .iter()
        .min_by_key(|p| (std::cmp::Reverse(p.rank), p.root_start))?;
    let all = parts.iter().flat_map(|p| p.workloads.split('|'));
    let mut workloads: Vec<String> = all.filter(|w| !w.is_empty()).map(str::to_owned).collect();
    workloads.sort_unstable();
    workloads.dedup();
    Some(TraceSummary {
        trace: named.trace,
        start: parts.iter().map(|p| p.start).min()?,
        end: parts.iter().map(|p| p.last).max()?,
        duration_us: named.root_last.0.saturating_sub(named.root_start.0),
        name: named.name.clone(),
        route: (!named.route.is_empty()).then(|| named.route.clone()),
        workloads,
        spans: parts.iter().map(|p| p.spans).sum(),
        errors: parts.iter().map(|p| p.errors).sum(),
    })
}

impl TraceQuery {
    /// Whether a part makes its trace worth a look. Exact for errors, and for workloads when errors are not asked for.
    pub(crate) fn may_match(&self, part: &Part) -> bool {
        if self.errors_only {
            return part.errors > 0;
        }
        part.workloads.split('|').any(|service| self.is_of(service))
    }

    /// Whether a trace is one of those asked for.
    pub(crate) fn matches(&self, trace: &TraceSummary) -> bool {
        self.id.is_none_or(|id| id == trace.trace)
            && trace.start >= self.since
            && (!self.errors_only || trace.errors > 0)
            && u128::from(trace.duration_us) >= self.min_duration.as_micros()
            && (self.is_of("") || trace.workloads.iter().any(|service| self.is_of(service)))
    }

    fn is_of(&self, service: &str) -> bool {
        let (app, workload) = service.split_once('/').unwrap_or_default();
        self.app.as_ref().is_none_or(|a| a.as_str() == app)
            && self
                .workload
                .as_ref()
                .is_none_or(|w| w.as_str() == workload)
    }
}

#[cfg(test)]
mod tests {
    use model::SpanId;

    use super::*;
    use crate::{Attributes, SpanKind};

    #[test]
    fn what_no_route_took_is_told_by_its_path() {
        let name = |name: &'static str, attributes: &[(&'static str, &'static str)]| {
            let mut all = Attributes::default();
            for (key, value) in attributes {
                all.push(*key, *value);
            }
            let span = Span {
                trace: TraceId(1),
                id: SpanId(1),
                parent: None,
                name: name.into(),
                kind: SpanKind::Server,
                start: Time(0),
                end: Time(1),
                app: None,
                workload: None,
                invocation: None,
                error: None,
                attributes: all,
                local_root: false,
            };
            part(TraceId(1), &[span]).expect("one span").name
        };
        assert_eq!(name("no route", &[("url.path", "/x")]), "no route /x");
        let routed = [("url.path", "/x/7"), ("http.route", "/x/*")];
        assert_eq!(name("GET /x/*", &routed), "GET /x/*");
        assert_eq!(name("GET /x", &[("url.path", "/x")]), "GET /x");
    }
}
