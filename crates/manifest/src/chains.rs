//! Chains of synchronous calls: cycles, and calls that cross between functions and services more than twice.
//!
//! Every caller in a chain waits for the rest of it, so that latencies add up and one slow workload holds all. The graph
//! is what `calls` declares inside the app; from each workload the worst chain is found once, so that cost stays linear.

use std::{collections::BTreeMap, time::Duration};

use model::{WorkloadName, units::display_duration};

use crate::{checks::local, places::Draft, reader::Reader, tree::Bytes};

/// Most crossings that pass without a warning.
const MAX_CROSSINGS: usize = 2;

/// A chain of calls.
#[derive(Debug, Clone, Default)]
struct Chain {
    names: Vec<WorkloadName>,
    crossings: usize,
}

/// What is known of a workload while the graph is walked.
enum Mark {
    Open,
    Done(Chain),
}

struct Walk<'d> {
    draft: &'d Draft,
    marks: BTreeMap<WorkloadName, Mark>,
    stack: Vec<WorkloadName>,
    cycles: Vec<Vec<WorkloadName>>,
}

pub(crate) fn check(reader: &mut Reader<'_>, draft: &Draft) {
    let mut walk = Walk {
        draft,
        marks: BTreeMap::new(),
        stack: Vec::new(),
        cycles: Vec::new(),
    };
    for name in draft.app.workloads.keys() {
        walk.visit(name);
    }
    for cycle in &walk.cycles {
        let at = call_place(draft, &cycle[0], &cycle[1 % cycle.len()]);
        let path = cycle.iter().chain(cycle.first());
        reader
            .warning(at, format!("calls go round in a circle: {}", shown(path)))
            .help("each waits for the next; depth past 16 is refused. Publish an event to break the circle");
    }
    for name in draft.app.workloads.keys() {
        if let Some(Mark::Done(chain)) = walk.marks.get(name)
            && chain.crossings > MAX_CROSSINGS
            && !is_called(&walk, name, chain)
        {
            warn_chain(reader, draft, chain);
        }
    }
}

impl Walk<'_> {
    /// The worst chain that begins at `name`. Recursion is as deep as the longest chain, at most the number of workloads
    /// that the limits of the manifest allow; [`MAX_STACK`] ends it before that matters.
    fn visit(&mut self, name: &WorkloadName) -> Chain {
        match self.marks.get(name) {
            Some(Mark::Done(chain)) => return chain.clone(),
            Some(Mark::Open) => {
                let from = self.stack.iter().position(|open| open == name);
                self.cycles.push(self.stack[from.unwrap_or(0)..].to_vec());
                return Chain::default();
            }
            None if self.stack.len() >= MAX_STACK => return Chain::default(),
            None => {}
        }
        self.marks.insert(name.clone(), Mark::Open);
        self.stack.push(name.clone());
        let chain = self.worst(name);
        self.stack.pop();
        self.marks.insert(name.clone(), Mark::Done(chain.clone()));
        chain
    }

    fn worst(&mut self, name: &WorkloadName) -> Chain {
        let draft = self.draft;
        let mut worst = Chain {
            names: vec![name.clone()],
            crossings: 0,
        };
        for called in called(draft, name) {
            let rest = self.visit(&called);
            let crosses = draft.app.workloads[name].tier != draft.app.workloads[&called].tier;
            let crossings = rest.crossings + usize::from(crosses);
            if !rest.names.is_empty()
                && (crossings, rest.names.len() + 1) > (worst.crossings, worst.names.len())
            {
                let mut names = vec![name.clone()];
                names.extend(rest.names);
                worst = Chain { names, crossings };
            }
        }
        worst
    }
}

/// Deepest chain that is followed.
const MAX_STACK: usize = 64;

fn called(draft: &Draft, name: &WorkloadName) -> Vec<WorkloadName> {
    draft.app.workloads[name]
        .calls
        .iter()
        .filter_map(|call| local(draft, call))
        .filter_map(|name| draft.app.workloads.get_key_value(name))
        .map(|(name, _)| name.clone())
        .collect()
}

/// Whether the chain is the end of another's, which then is the one to warn of.
fn is_called(walk: &Walk<'_>, name: &WorkloadName, chain: &Chain) -> bool {
    walk.marks.values().any(|mark| match mark {
        Mark::Done(other) => other.names.len() > chain.names.len() && other.names.contains(name),
        Mark::Open => false,
    })
}

fn warn_chain(reader: &mut Reader<'_>, draft: &Draft, chain: &Chain) {
    let waits: Vec<Duration> = chain
        .names
        .iter()
        .skip(1)
        .map(|name| draft.app.workloads[name].timeout)
        .collect();
    let each: Vec<_> = waits.iter().map(|wait| display_duration(*wait)).collect();
    let message = format!(
        "a chain of {} synchronous calls across tiers: {}",
        waits.len(),
        shown(chain.names.iter())
    );
    let total = display_duration(waits.iter().sum());
    let at = call_place(draft, &chain.names[0], &chain.names[1]);
    reader
        .warning(at, message)
        .expected("each waits for the next")
        .help(format!(
            "the worst case is {total} ({}); publish an event where the answer is not needed",
            each.join(" + ")
        ));
}

fn call_place(draft: &Draft, from: &WorkloadName, to: &WorkloadName) -> Bytes {
    let (workload, places) = (&draft.app.workloads[from], &draft.workloads[from]);
    let calls = workload.calls.iter().zip(&places.calls);
    let found = calls
        .into_iter()
        .find(|(call, _)| local(draft, call) == Some(to.as_str()));
    found.map_or(places.name, |(_, at)| *at)
}

fn shown<'n>(names: impl Iterator<Item = &'n WorkloadName>) -> String {
    let names: Vec<_> = names.map(WorkloadName::as_str).collect();
    names.join(" → ")
}
