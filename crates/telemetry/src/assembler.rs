//! Traces whose local root has not ended yet, and what was decided about those whose root has. Pure: spans and
//! the time go in, segments to keep come out.
//!
//! A root is judged one round after it was seen, because spans of other cores may be a queue behind it. A local
//! root that something earlier caused (a delivery, a request with a trace of its own) waits for the root of its
//! trace, but not for long.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use model::{Time, TraceId};

use crate::{
    early::Early,
    options::Sampling,
    sampler::{Facts, Sampler, Verdict, Why},
    span::Span,
};

/// How long a local root that has a parent waits for the root of its trace.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long spans wait for any local root: it may have been lost to a full ring.
const ORPHANED: Duration = Duration::from_secs(120);

/// Traces remembered as kept, and as many as dropped.
const REMEMBERED: usize = 65_536;

/// What was decided so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Decisions {
    pub(crate) all: u64,
    pub(crate) error: u64,
    pub(crate) slow: u64,
    pub(crate) share: u64,
    pub(crate) dropped: u64,
    /// Spans that came after the decision to drop their trace.
    pub(crate) late_dropped: u64,
    /// Traces decided before their root ended, for want of memory.
    pub(crate) early: u64,
}

/// Spans of one trace that are to be kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Segment {
    pub(crate) trace: TraceId,
    pub(crate) spans: Vec<Span>,
}

impl Segment {
    /// About how many bytes of memory it holds.
    pub(crate) fn weight(&self) -> usize {
        self.spans.iter().map(Span::weight).sum()
    }
}

/// Traces under way.
pub(crate) struct Assembler {
    pending: HashMap<TraceId, Pending>,
    /// In order of when their first span came, with that time.
    order: VecDeque<(Time, TraceId)>,
    /// Final roots seen in this round, and in the one before.
    ended: Vec<TraceId>,
    ripe: Vec<TraceId>,
    decided: Decided,
    /// What drops traces before they are seen here.
    early: Arc<Early>,
    sampler: Sampler,
    bytes: usize,
    limit: usize,
    pub(crate) decisions: Decisions,
}

struct Pending {
    spans: Vec<Span>,
    bytes: usize,
    since: Time,
    /// Since when a local root waits for the verdict on its trace, or spans of a dropped trace for their local root.
    waiting: Option<Time>,
    /// These came after the rest of their trace was dropped.
    late: bool,
}

impl Assembler {
    /// An assembler that holds at most `limit` bytes of spans.
    pub(crate) fn new(sampling: Sampling, limit: usize, early: Arc<Early>) -> Self {
        Self {
            pending: HashMap::new(),
            order: VecDeque::new(),
            ended: Vec::new(),
            ripe: Vec::new(),
            decided: Decided::default(),
            early,
            sampler: Sampler::new(sampling),
            bytes: 0,
            limit,
            decisions: Decisions::default(),
        }
    }

    /// Takes a span. One of a trace that is kept goes to `out` at once.
    pub(crate) fn take(&mut self, span: Span, now: Time, out: &mut Vec<Segment>) {
        // What is undecided is looked at first: it is little and was just used, what is remembered is neither.
        let pending = match self.pending.entry(span.trace) {
            Entry::Occupied(pending) => pending.into_mut(),
            Entry::Vacant(vacant) => {
                let unseen = || self.early.has_dropped(span.trace).then_some(Fate::Dropped);
                let fate = self.decided.fate(span.trace).or_else(unseen);
                if fate == Some(Fate::Kept) {
                    return keep_late(span, out);
                }
                self.order.push_back((now, span.trace));
                vacant.insert(Pending::new(now, fate.is_some()))
            }
        };
        let weight = span.weight();
        self.bytes += weight;
        pending.bytes += weight;
        if span.local_root && (span.parent.is_none() || pending.late) {
            self.ended.push(span.trace);
        } else if span.local_root {
            pending.waiting.get_or_insert(now);
        }
        pending.spans.push(span);
    }

    /// Ends a round: judges the roots of the round before, what waited too long, and what no longer fits.
    pub(crate) fn round(&mut self, now: Time, out: &mut Vec<Segment>) {
        let ripe = std::mem::replace(&mut self.ripe, std::mem::take(&mut self.ended));
        for trace in ripe {
            self.decide(trace, now, out);
        }
        while let Some(&(came, trace)) = self.order.front() {
            match self.pending.get(&trace) {
                Some(pending) if pending.since == came => {
                    let full = self.bytes > self.limit;
                    if !full && !pending.overdue(now) {
                        break;
                    }
                    self.decisions.early += u64::from(full);
                    self.order.pop_front();
                    self.decide(trace, now, out);
                }
                _ => {
                    self.order.pop_front();
                }
            }
        }
        if self.order.len() > 2 * self.pending.len() + 1024 {
            let pending = &self.pending;
            let current = |(came, trace): &(Time, TraceId)| {
                pending.get(trace).is_some_and(|p| p.since == *came)
            };
            self.order.retain(current);
        }
        self.settle_early(now);
    }

    /// Counts what was dropped where it ended, and says what decides there from now on.
    fn settle_early(&mut self, now: Time) {
        let (sampler, decisions) = (&mut self.sampler, &mut self.decisions);
        self.early.settle(|route, dropped| {
            decisions.dropped += dropped.count();
            sampler.count_dropped(route, dropped, now)
        });
        if let Some(until) = self.sampler.busy_until(now) {
            self.early.busy_until(until, now);
        }
    }

    /// Judges everything that is here: the platform stops.
    pub(crate) fn finish(&mut self, now: Time, out: &mut Vec<Segment>) {
        for (_, trace) in std::mem::take(&mut self.order) {
            self.decide(trace, now, out);
        }
    }

    fn decide(&mut self, trace: TraceId, now: Time, out: &mut Vec<Segment>) {
        let Some(pending) = self.pending.remove(&trace) else {
            return;
        };
        self.bytes -= pending.bytes;
        let error = pending.spans.iter().any(|span| span.error.is_some());
        let verdict = if pending.late {
            late_verdict(error)
        } else {
            self.sampler.judge(facts(&pending.spans, error), now)
        };
        self.count(verdict, &pending);
        if verdict == Verdict::Drop {
            self.decided.remember(trace, Fate::Dropped);
        } else {
            self.decided.remember(trace, Fate::Kept);
            let spans = pending.spans;
            out.push(Segment { trace, spans });
        }
    }

    fn count(&mut self, verdict: Verdict, pending: &Pending) {
        let counter = match verdict {
            Verdict::Keep(Why::All) => &mut self.decisions.all,
            Verdict::Keep(Why::Error) => &mut self.decisions.error,
            Verdict::Keep(Why::Slow) => &mut self.decisions.slow,
            Verdict::Keep(Why::Share) => &mut self.decisions.share,
            Verdict::Drop if pending.late => {
                self.decisions.late_dropped += pending.spans.len() as u64;
                return;
            }
            Verdict::Drop => &mut self.decisions.dropped,
        };
        *counter += 1;
    }

    /// The spans here of `trace`, undecided.
    pub(crate) fn spans_of(&self, trace: TraceId) -> &[Span] {
        self.pending.get(&trace).map_or(&[], |p| &p.spans)
    }

    /// All undecided traces.
    pub(crate) fn undecided(&self) -> impl Iterator<Item = (TraceId, &[Span])> {
        self.pending.iter().map(|(trace, p)| (*trace, &*p.spans))
    }
}

impl Pending {
    fn new(since: Time, late: bool) -> Self {
        Self {
            // Most have the gateway's and the invocation's.
            spans: Vec::with_capacity(2),
            bytes: 0,
            since,
            waiting: late.then_some(since),
            late,
        }
    }

    fn overdue(&self, now: Time) -> bool {
        let waited = self
            .waiting
            .is_some_and(|since| now.since(since) >= PATIENCE);
        waited || now.since(self.since) >= ORPHANED
    }
}

/// Of a dropped trace only what failed is kept, with all that belongs to it.
const fn late_verdict(error: bool) -> Verdict {
    if error {
        Verdict::Keep(Why::Error)
    } else {
        Verdict::Drop
    }
}

fn keep_late(span: Span, out: &mut Vec<Segment>) {
    match out.last_mut() {
        Some(segment) if segment.trace == span.trace => segment.spans.push(span),
        _ => out.push(Segment {
            trace: span.trace,
            spans: vec![span],
        }),
    }
}

/// The root decides: its name is the route, its duration that of the trace.
fn facts(spans: &[Span], error: bool) -> Facts<'_> {
    let root = naming(spans);
    Facts {
        route: root.map_or("", route_of),
        duration: root.map(Span::duration).unwrap_or_default(),
        error,
    }
}

/// What stands for the route of a root: its `http.route`, else its name.
pub(crate) fn route_of(root: &Span) -> &str {
    root.attributes.text("http.route").unwrap_or(&root.name)
}

/// The span that names a set of spans: the root, else the first local root, else the first of all.
pub(crate) fn naming(spans: &[Span]) -> Option<&Span> {
    let order = |span: &&Span| (span.parent.is_some(), !span.local_root, span.start, span.id);
    spans.iter().min_by_key(order)
}

/// What became of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Dropped,
}

/// What became of the last [`REMEMBERED`] traces of either fate.
#[derive(Default)]
struct Decided {
    fates: HashMap<TraceId, Fate>,
    kept: VecDeque<TraceId>,
    dropped: VecDeque<TraceId>,
}

impl Decided {
    fn fate(&self, trace: TraceId) -> Option<Fate> {
        self.fates.get(&trace).copied()
    }

    fn remember(&mut self, trace: TraceId, fate: Fate) {
        if self.fates.insert(trace, fate) == Some(fate) {
            return;
        }
        let order = match fate {
            Fate::Kept => &mut self.kept,
            Fate::Dropped => &mut self.dropped,
        };
        order.push_back(trace);
        if order.len() > REMEMBERED {
            let oldest = order.pop_front().expect("longer than the limit");
            // One that was dropped and then kept for an error is remembered as that.
            if let Entry::Occupied(known) = self.fates.entry(oldest)
                && *known.get() == fate
            {
                known.remove();
            }
        }
    }
}

#[cfg(test)]
#[path = "assembler_tests.rs"]
pub(crate) mod tests;
