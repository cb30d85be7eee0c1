//! The order in which the lines of a tree come, and the stems before them. No recursion: spans from outside may
//! claim any depth, or be each other's parents.

use std::collections::{HashMap, HashSet};

use model::{InvocationId, SpanId};

use crate::{log::LogRecord, query::Trace, span::Span};

/// How the dispatcher names the phases of a cold start.
const COLD_START: &str = "cold start: ";

/// Children drawn of one span, and lines of one invocation.
const CHILDREN: usize = 60;
const LINES: usize = 20;

/// One line of the tree, before it is laid out.
pub(super) enum Entry<'a> {
    Span(Node<'a>),
    /// The phases of a cold start on one line.
    ColdStart(Node<'a>, Vec<&'a Span>),
    Error(&'a str, String),
    Log(&'a LogRecord, String),
    /// What was left out.
    More(String, String),
}

/// A span with what is drawn before it.
pub(super) struct Node<'a> {
    pub(super) span: &'a Span,
    pub(super) parent: Option<&'a Span>,
    /// `│  ├─ `
    pub(super) branch: String,
}

impl Node<'_> {
    /// What is drawn before the lines below this: `│  │  ` for `│  ├─ `.
    pub(super) fn trunk(&self) -> String {
        self.branch.replace("├─", "│ ").replace("└─", "  ")
    }
}

/// A trace by who caused what.
pub(super) struct Forest<'a> {
    trace: &'a Trace,
    children: HashMap<SpanId, Vec<&'a Span>>,
    /// The spans under which the lines of an invocation are drawn: one for each of its attempts.
    homes: HashMap<InvocationId, Vec<&'a Span>>,
    roots: Vec<&'a Span>,
}

/// What is still to be drawn.
enum Task<'a> {
    Span(&'a Span, Option<&'a Span>, String, Place),
    Cold(Vec<&'a Span>, &'a Span, String, Place),
    Entry(Entry<'a>),
}

/// Where something stands among its siblings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Middle,
    Last,
}

impl<'a> Forest<'a> {
    pub(super) fn of(trace: &'a Trace) -> Self {
        let known: HashSet<SpanId> = trace.spans.iter().map(|s| s.id).collect();
        let mut children: HashMap<SpanId, Vec<&Span>> = HashMap::new();
        let mut roots = Vec::new();
        let mut homes: HashMap<InvocationId, Vec<&Span>> = HashMap::new();
        for span in &trace.spans {
            match span.parent.filter(|parent| known.contains(parent)) {
                Some(parent) => children.entry(parent).or_default().push(span),
                None => roots.push(span),
            }
            if let (Some(invocation), Some(_), false) =
                (span.invocation, &span.workload, is_phase(span))
            {
                homes.entry(invocation).or_default().push(span);
            }
        }
        homes
            .values_mut()
            .for_each(|attempts| keep_outermost(attempts));
        Self {
            trace,
            children,
            homes,
            roots,
        }
    }

    /// All lines in order. What is in a circle hangs on no root and comes last, by itself.
    pub(super) fn entries(&self) -> Vec<Entry<'a>> {
        let mut entries = Vec::new();
        let mut drawn = HashSet::new();
        for root in &self.roots {
            self.draw(root, &mut drawn, &mut entries);
        }
        for span in &self.trace.spans {
            if !drawn.contains(&span.id) {
                self.draw(span, &mut drawn, &mut entries);
            }
        }
        let homeless = self
            .trace
            .logs
            .iter()
            .filter(|log| self.home(log).is_none());
        entries.extend(homeless.map(|log| Entry::Log(log, String::new())));
        entries
    }

    fn draw(&self, root: &'a Span, drawn: &mut HashSet<SpanId>, entries: &mut Vec<Entry<'a>>) {
        let mut tasks = vec![Task::Span(root, None, String::new(), Place::Root)];
        while let Some(task) = tasks.pop() {
            match task {
                Task::Entry(entry) => entries.push(entry),
                Task::Cold(phases, parent, stem, place) => {
                    drawn.extend(phases.iter().map(|p| p.id));
                    let node = Node {
                        span: phases[0],
                        parent: Some(parent),
                        branch: stem + place.arm(),
                    };
                    entries.push(Entry::ColdStart(node, phases));
                }
                Task::Span(span, parent, stem, place) if drawn.insert(span.id) => {
                    let branch = stem.clone() + place.arm();
                    entries.push(Entry::Span(Node {
                        span,
                        parent,
                        branch,
                    }));
                    self.below(span, &(stem + place.trunk()), &mut tasks);
                }
                Task::Span(..) => {}
            }
        }
    }

    /// Puts what is drawn below `span` on the stack, the last first.
    fn below(&self, span: &'a Span, stem: &str, tasks: &mut Vec<Task<'a>>) {
        let all = self.children.get(&span.id).map_or(&[][..], Vec::as_slice);
        let (phases, children): (Vec<_>, Vec<_>) = all.iter().copied().partition(|s| is_phase(s));
        let left_out = children.len().saturating_sub(CHILDREN);
        let mut below = Vec::new();
        if !phases.is_empty() {
            below.push(Task::Cold(phases, span, stem.to_owned(), Place::Middle));
        }
        let shown = children.into_iter().take(CHILDREN);
        below.extend(
            shown.map(|child| Task::Span(child, Some(span), stem.to_owned(), Place::Middle)),
        );
        if let Some(last) = below.last_mut() {
            last.is_last();
        }
        if left_out > 0 {
            below.push(Task::Entry(Entry::More(
                format!("{left_out} more spans"),
                stem.to_owned(),
            )));
        }
        tasks.extend(below.into_iter().rev());
        let leads_on = !all.is_empty();
        tasks.extend(
            self.notes(span, stem, leads_on)
                .into_iter()
                .rev()
                .map(Task::Entry),
        );
    }

    /// The error and the lines of `span`.
    fn notes(&self, span: &'a Span, stem: &str, leads_on: bool) -> Vec<Entry<'a>> {
        let stem = format!("{stem}{}", if leads_on { "│ " } else { "  " });
        let mut notes = Vec::new();
        if let Some(error) = &span.error {
            notes.push(Entry::Error(error, stem.clone()));
        }
        let lines: Vec<&LogRecord> = self
            .trace
            .logs
            .iter()
            .filter(|l| self.home(l) == Some(span.id))
            .collect();
        let left_out = lines.len().saturating_sub(LINES);
        notes.extend(
            lines
                .into_iter()
                .take(LINES)
                .map(|log| Entry::Log(log, stem.clone())),
        );
        if left_out > 0 {
            let id = span.invocation.map(|id| id.to_string()).unwrap_or_default();
            let more = format!("{left_out} more lines: tangelo logs --invocation {id}");
            notes.push(Entry::More(more, stem));
        }
        notes
    }

    fn home(&self, log: &LogRecord) -> Option<SpanId> {
        let attempts = self.homes.get(&log.invocation?)?;
        let begun = |span: &&&Span| span.start <= log.time;
        let home = attempts.iter().filter(begun).max_by_key(|span| span.start);
        home.or_else(|| attempts.first()).map(|span| span.id)
    }
}

/// What a workload traces itself belongs to its invocation too; its lines stay with the attempt around that.
fn keep_outermost(spans: &mut Vec<&Span>) {
    let ids: HashSet<SpanId> = spans.iter().map(|span| span.id).collect();
    let is_inner = |span: &Span| span.parent.is_some_and(|parent| ids.contains(&parent));
    if !spans.iter().all(|span| is_inner(span)) {
        spans.retain(|span| !is_inner(span));
    }
}

impl Task<'_> {
    const fn is_last(&mut self) {
        match self {
            Self::Span(_, _, _, place) | Self::Cold(_, _, _, place) => *place = Place::Last,
            Self::Entry(_) => {}
        }
    }
}

impl Place {
    const fn arm(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Middle => "├─ ",
            Self::Last => "└─ ",
        }
    }

    const fn trunk(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Middle => "│  ",
            Self::Last => "   ",
        }
    }
}

fn is_phase(span: &Span) -> bool {
    span.name.starts_with(COLD_START)
}

/// `init` of `cold start: init`.
pub(super) fn phase_name(span: &Span) -> &str {
    span.name.strip_prefix(COLD_START).unwrap_or(&span.name)
}
