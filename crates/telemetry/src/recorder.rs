//! What the telemetry thread does with what waits: decides about traces, packs what is kept into blocks, writes.
//!
//! A disk that refuses costs the blocks at hand and a count, never a request.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use model::{Time, TraceId};
use serde::{Deserialize, Serialize};
use store::telemetry::{Block, BlockIndex, Part};

use crate::{
    assembler::{Assembler, Segment},
    codec,
    early::Early,
    files::Files,
    log::LogRecord,
    options::Sampling,
    query,
    ring::Ring,
    search,
    span::Span,
};

/// About how many bytes of spans or lines go into one block, before compression.
const BLOCK: usize = 128 << 10;

/// What was recorded, kept and lost since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Spans taken from the rings.
    pub spans: u64,
    /// Lines taken from the rings.
    pub logs: u64,
    /// Spans lost because a ring was full.
    pub spans_lost: u64,
    /// Lines lost because a ring was full.
    pub logs_lost: u64,
    /// Traces kept because few enough came.
    pub kept_all: u64,
    /// Traces kept because something failed.
    pub kept_error: u64,
    /// Traces kept because they were slow for their route.
    pub kept_slow: u64,
    /// Traces kept because it was their route's turn.
    pub kept_share: u64,
    /// Traces dropped by choice.
    pub dropped: u64,
    /// Spans that came after their trace was dropped.
    pub late_dropped: u64,
    /// Traces decided before their root ended, for want of memory.
    pub early: u64,
    /// Blocks written.
    pub blocks: u64,
    /// Blocks lost because the disk refused.
    pub blocks_lost: u64,
    /// Files there are.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Spans that a collector took.
    pub exported: u64,
    /// Spans that no collector took.
    pub export_lost: u64,
    /// Invocations whose usage was counted under no name, because there were too many names.
    pub usage_folded: u64,
}

/// Everything that the telemetry thread and queries share.
pub(crate) struct Recorder {
    assembler: Assembler,
    kept: Vec<Arc<Segment>>,
    kept_bytes: usize,
    logs: Vec<Arc<LogRecord>>,
    log_bytes: usize,
    files: Files,
    stats: Stats,
    /// Whether the last write failed, so that one outage is one warning.
    failing: bool,
}

impl Recorder {
    pub(crate) fn new(files: Files, sampling: Sampling, early: Arc<Early>) -> Self {
        let limit = sampling.memory.as_usize() / 2;
        Self {
            assembler: Assembler::new(sampling, limit, early),
            kept: Vec::new(),
            kept_bytes: 0,
            logs: Vec::new(),
            log_bytes: 0,
            files,
            stats: Stats::default(),
            failing: false,
        }
    }

    /// Takes what waits and decides what can be decided. Returns what is kept from now on.
    pub(crate) fn collect(&mut self, ring: &Ring, now: Time) -> Vec<Arc<Segment>> {
        let mut out = Vec::new();
        for waiting in ring.drain() {
            self.stats.spans += waiting.spans.len() as u64;
            self.stats.logs += waiting.logs.len() as u64;
            self.log_bytes += waiting.logs.iter().map(|l| l.weight()).sum::<usize>();
            self.logs.extend(waiting.logs);
            for span in waiting.spans {
                self.assembler.take(span, now, &mut out);
            }
        }
        self.assembler.round(now, &mut out);
        self.keep(out)
    }

    /// Decides about all that is here: the platform stops.
    pub(crate) fn finish(&mut self, now: Time) -> Vec<Arc<Segment>> {
        let mut out = Vec::new();
        self.assembler.finish(now, &mut out);
        self.keep(out)
    }

    fn keep(&mut self, segments: Vec<Segment>) -> Vec<Arc<Segment>> {
        let segments: Vec<Arc<Segment>> = segments.into_iter().map(Arc::new).collect();
        self.kept_bytes += segments.iter().map(|s| s.weight()).sum::<usize>();
        self.kept.extend(segments.iter().cloned());
        segments
    }

    /// Whether enough waits to fill blocks.
    pub(crate) const fn is_full(&self) -> bool {
        self.kept_bytes >= BLOCK || self.log_bytes >= BLOCK
    }

    /// Writes what is kept.
    pub(crate) fn flush(&mut self, now: Time) {
        let mut blocks = span_blocks(&std::mem::take(&mut self.kept));
        blocks.extend(log_blocks(std::mem::take(&mut self.logs)));
        (self.kept_bytes, self.log_bytes) = (0, 0);
        if blocks.is_empty() {
            return self.files.prune(now);
        }
        let result = self.files.write(&blocks, now);
        match &result {
            Ok(()) => self.stats.blocks += blocks.len() as u64,
            Err(_) => self.stats.blocks_lost += blocks.len() as u64,
        }
        if let (false, Err(error)) = (self.failing, &result) {
            tracing::warn!(%error, "telemetry is not written");
        }
        self.failing = result.is_err();
    }

    /// Closes the files.
    pub(crate) fn close(&mut self) {
        self.files.close();
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.files.paths()
    }

    /// The spans of `trace` about which nothing is decided.
    pub(crate) fn undecided_of(&self, trace: TraceId) -> Vec<Span> {
        self.assembler.spans_of(trace).to_vec()
    }

    /// Index rows of undecided traces with a local root that has ended.
    pub(crate) fn undecided(&self) -> Vec<Part> {
        let ended = |spans: &[Span]| spans.iter().any(|s| s.local_root);
        let parts = self.assembler.undecided().filter(|(_, spans)| ended(spans));
        parts
            .filter_map(|(trace, spans)| query::part(trace, spans))
            .collect()
    }

    /// What is known here; the caller adds what it counts itself.
    pub(crate) fn stats(&self) -> Stats {
        let decided = self.assembler.decisions;
        let (files, bytes) = self.files.totals();
        Stats {
            kept_all: decided.all,
            kept_error: decided.error,
            kept_slow: decided.slow,
            kept_share: decided.share,
            dropped: decided.dropped,
            late_dropped: decided.late_dropped,
            early: decided.early,
            files,
            bytes,
            ..self.stats
        }
    }
}

/// Segments as blocks of about [`BLOCK`] bytes; what belongs to one trace goes into one of them.
fn span_blocks(segments: &[Arc<Segment>]) -> Vec<Block> {
    let mut traces: BTreeMap<TraceId, Vec<Span>> = BTreeMap::new();
    for segment in segments {
        let spans = traces.entry(segment.trace).or_default();
        spans.extend(segment.spans.iter().cloned());
    }
    let mut blocks = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for (trace, spans) in traces {
        bytes += spans.iter().map(Span::weight).sum::<usize>();
        batch.push((trace, spans));
        if bytes >= BLOCK {
            blocks.extend(span_block(&std::mem::take(&mut batch)));
            bytes = 0;
        }
    }
    blocks.extend(span_block(&batch));
    blocks
}

fn span_block(traces: &[(TraceId, Vec<Span>)]) -> Option<Block> {
    let parts = traces
        .iter()
        .filter_map(|(trace, spans)| query::part(*trace, spans));
    let parts: Vec<Part> = parts.collect();
    Some(Block {
        first: parts.iter().map(|p| p.start).min()?,
        last: parts.iter().map(|p| p.last).max()?,
        bytes: codec::encode_spans(traces.iter().flat_map(|(_, spans)| spans)),
        index: BlockIndex::Spans(parts),
    })
}

/// Lines as blocks of about [`BLOCK`] bytes, in the order of their time.
fn log_blocks(mut logs: Vec<Arc<LogRecord>>) -> Vec<Block> {
    logs.sort_by_key(|log| log.time);
    let mut blocks = Vec::new();
    let mut rest = &logs[..];
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|log| {
            let before = bytes;
            bytes += log.weight();
            before < BLOCK
        });
        let (batch, left) = rest.split_at(fits.count());
        blocks.extend(log_block(batch));
        rest = left;
    }
    blocks
}

fn log_block(logs: &[Arc<LogRecord>]) -> Option<Block> {
    let mut keys: Vec<u64> = logs.iter().flat_map(|log| search::log_keys(log)).collect();
    keys.sort_unstable();
    keys.dedup();
    Some(Block {
        first: logs.first()?.time,
        last: logs.last()?.time,
        bytes: codec::encode_logs(logs.iter().map(AsRef::as_ref)),
        index: BlockIndex::Logs(keys),
    })
}
