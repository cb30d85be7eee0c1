//! Finding traces and lines in the files. A file or a block that cannot be read is skipped and said in the log.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use model::{Time, TraceId};
use store::telemetry::{File, FileError, LogSelect, Part};

use crate::{
    codec,
    log::LogRecord,
    query::{LogQuery, TraceQuery, TraceSummary, summary},
    span::Span,
};

/// Index rows looked at for one list, so that a filter that matches nothing ends.
const LOOK_AT: usize = 50_000;

/// Index rows and blocks read at a time.
const PAGE: usize = 500;
const BLOCKS: usize = 16;

/// The files of one query, the newest first.
pub(crate) struct Search(Vec<File>);

impl Search {
    pub(crate) fn open(paths: &[PathBuf]) -> Self {
        let open = |path: &PathBuf| readable(path, File::read(path));
        Self(paths.iter().filter_map(open).collect())
    }

    /// The latest traces that match; `undecided` are those that are in no file yet.
    pub(crate) fn traces(&self, query: &TraceQuery, undecided: &[Part]) -> Vec<TraceSummary> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut consider = |part: &Part| {
            if query.may_match(part) && seen.insert(part.trace) {
                let whole = self.summary(part.trace, undecided);
                found.extend(whole.filter(|trace| query.matches(trace)));
            }
            found.len() >= query.limit
        };
        if let Some(id) = query.id {
            let here = undecided.iter().filter(|p| p.trace == id).cloned();
            let stored = self
                .0
                .iter()
                .flat_map(|file| file.parts_of(id).unwrap_or_default());
            here.chain(stored).for_each(|part| {
                consider(&part);
            });
        } else {
            undecided.iter().for_each(|part| {
                consider(part);
            });
            self.each_part(query.since, &mut consider);
        }
        found.sort_by_key(|trace| std::cmp::Reverse(trace.start));
        found.truncate(query.limit);
        found
    }

    /// Shows index rows to `enough`, the latest first within a file, until it says so.
    fn each_part(&self, since: Time, enough: &mut impl FnMut(&Part) -> bool) {
        let mut looked_at = 0;
        for file in &self.0 {
            let mut before = Time(i64::MAX.cast_unsigned());
            loop {
                let page = file.parts(since, before, PAGE).unwrap_or_default();
                looked_at += page.len();
                if page.iter().any(&mut *enough) || looked_at >= LOOK_AT {
                    return;
                }
                let Some(last) = page.last().filter(|_| page.len() == PAGE) else {
                    break;
                };
                // Rows of the same microsecond may lie on both sides of the page's end.
                let next = Time(last.start.0 + 1);
                before = if next < before { next } else { last.start };
            }
        }
    }

    fn summary(&self, trace: TraceId, undecided: &[Part]) -> Option<TraceSummary> {
        let here = undecided.iter().filter(|p| p.trace == trace).cloned();
        let stored = self
            .0
            .iter()
            .flat_map(|file| file.parts_of(trace).unwrap_or_default());
        summary(&here.chain(stored).collect::<Vec<Part>>())
    }

    /// All stored spans of `trace`.
    pub(crate) fn spans(&self, trace: TraceId) -> Vec<Span> {
        let blocks = self
            .0
            .iter()
            .flat_map(|file| file.spans_of(trace).unwrap_or_default());
        let spans = blocks.flat_map(|block| intact(codec::decode_spans(&block.bytes)));
        spans.filter(|span| span.trace == trace).collect()
    }

    /// The latest lines that match, in the order in which they were written.
    pub(crate) fn logs(&self, query: &LogQuery) -> Vec<LogRecord> {
        let mut found = Vec::new();
        for file in &self.0 {
            if found.len() >= query.limit {
                break;
            }
            logs_of(file, query, &mut found);
        }
        found.sort_by_key(|log| log.time);
        found.drain(..found.len().saturating_sub(query.limit));
        found
    }
}

fn logs_of(file: &File, query: &LogQuery, found: &mut Vec<LogRecord>) {
    let mut select = LogSelect {
        keys: asked_keys(query),
        since: query.since,
        before: None,
        limit: BLOCKS,
    };
    while found.len() < query.limit {
        let page = file.logs(&select).unwrap_or_default();
        for block in &page {
            let logs = intact(codec::decode_logs(&block.bytes));
            found.extend(logs.into_iter().filter(|log| query.matches(log)));
        }
        let Some(last) = page.last().filter(|_| page.len() == BLOCKS) else {
            return;
        };
        select.before = Some(last.id);
    }
}

fn readable(path: &Path, file: Result<File, FileError>) -> Option<File> {
    file.inspect_err(|error| {
        tracing::warn!(path = %path.display(), %error, "a telemetry file is skipped");
    })
    .ok()
}

fn intact<T>(decoded: Option<Vec<T>>) -> Vec<T> {
    decoded.unwrap_or_else(|| {
        tracing::warn!("a damaged block of telemetry is skipped");
        Vec::new()
    })
}

/// Hashes under which a line is found.
pub(crate) fn log_keys(log: &LogRecord) -> impl Iterator<Item = u64> {
    let app = key("app", &log.app);
    let workload = key("workload", &log.workload);
    let invocation = log.invocation.map(|id| key("invocation", &id));
    let trace = log.trace.map(|id| key("trace", &id));
    [Some(app), Some(workload), invocation, trace]
        .into_iter()
        .flatten()
}

fn asked_keys(query: &LogQuery) -> Vec<u64> {
    let app = query.app.as_ref().map(|name| key("app", name));
    let workload = query.workload.as_ref().map(|name| key("workload", name));
    let invocation = query.invocation.map(|id| key("invocation", &id));
    let trace = query.trace.map(|id| key("trace", &id));
    [app, workload, invocation, trace]
        .into_iter()
        .flatten()
        .collect()
}

/// FNV-1a, 64 bits: stored, so it may never change.
fn key(kind: &str, value: &impl std::fmt::Display) -> u64 {
    let text = format!("{kind}:{value}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_never_change() {
        assert_eq!(key("app", &"shop"), 0x2d3d_7067_87ce_261e);
    }
}
