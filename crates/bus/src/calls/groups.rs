//! What waits in memory, by target: a bounded window of each, so that a target that is down holds up no other. Pure.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use model::{InvocationId, Target, Time};
use store::calls::Waiting;

/// Most calls of one target in memory; the rest is in the store, and read when these get few.
pub(crate) const WINDOW: usize = 4096;

/// All targets that were called.
#[derive(Default)]
pub(crate) struct Groups {
    by_target: HashMap<Target, usize>,
    groups: Vec<Group>,
    queue: VecDeque<usize>,
    timers: BTreeSet<(Time, usize)>,
}

struct Group {
    target: Target,
    waiting: BTreeSet<Waiting>,
    running: HashSet<InvocationId>,
    /// Whether the store has more than is in memory.
    more: bool,
    parked: Option<Time>,
    stage: Stage,
    timer: Option<Time>,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Stage {
    Quiet,
    Queued,
    Named,
}

impl Groups {
    fn group(&mut self, target: &Target) -> usize {
        if let Some(at) = self.by_target.get(target) {
            return *at;
        }
        let at = self.groups.len();
        self.by_target.insert(target.clone(), at);
        self.groups.push(Group {
            target: target.clone(),
            waiting: BTreeSet::new(),
            running: HashSet::new(),
            more: false,
            parked: None,
            stage: Stage::Quiet,
            timer: None,
        });
        at
    }

    /// A call was accepted. Says whether someone who waits for work should look.
    pub(crate) fn accepted(&mut self, target: &Target, waiting: Waiting, now: Time) -> bool {
        let at = self.group(target);
        let group = &mut self.groups[at];
        if group.more || group.waiting.len() >= WINDOW {
            group.more = true;
            return false;
        }
        group.waiting.insert(waiting);
        self.touch(at, now)
    }

    /// A call that ran waits again.
    pub(crate) fn waits(&mut self, target: &Target, waiting: Waiting, now: Time) -> bool {
        let at = self.group(target);
        let group = &mut self.groups[at];
        group.running.remove(&waiting.id);
        group.waiting.insert(waiting);
        self.touch(at, now)
    }

    /// What was read of the store; `more`: there is more than that.
    pub(crate) fn loaded(
        &mut self,
        target: &Target,
        read: Vec<Waiting>,
        more: bool,
        now: Time,
    ) -> bool {
        let at = self.group(target);
        let group = &mut self.groups[at];
        let known: HashSet<InvocationId> = group.waiting.iter().map(|waiting| waiting.id).collect();
        let new = |waiting: &Waiting| {
            !group.running.contains(&waiting.id) && !known.contains(&waiting.id)
        };
        let new: Vec<_> = read.into_iter().filter(new).collect();
        group.waiting.extend(new);
        group.more = more;
        self.touch(at, now)
    }

    /// How many to read for a target that has few left in memory and more in the store.
    pub(crate) fn wants_loading(&self, target: &Target) -> Option<usize> {
        let group = &self.groups[*self.by_target.get(target)?];
        let few = group.more && group.waiting.len() < WINDOW / 4;
        few.then_some(WINDOW + group.running.len())
    }

    /// Names the next target with work, or says when one may have some.
    pub(crate) fn name_next(&mut self, now: Time) -> Result<Target, Option<Time>> {
        while let Some((due, at)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, at));
            self.groups[at].timer = None;
            self.touch(at, now);
        }
        let Some(at) = self.queue.pop_front() else {
            return Err(self.timers.first().map(|(due, _)| *due));
        };
        self.groups[at].stage = Stage::Named;
        Ok(self.groups[at].target.clone())
    }

    /// The next call of a target that is due; it runs from now on.
    pub(crate) fn take(&mut self, target: &Target, now: Time) -> Option<InvocationId> {
        let group = &mut self.groups[*self.by_target.get(target)?];
        let first = group
            .waiting
            .first()
            .copied()
            .filter(|first| first.due <= now)?;
        group.waiting.remove(&first);
        group.running.insert(first.id);
        Some(first.id)
    }

    /// A call ended.
    pub(crate) fn ended(&mut self, target: &Target, id: InvocationId) {
        let at = self.group(target);
        self.groups[at].running.remove(&id);
    }

    /// A loop that was given this target took from it, or got no permit until `parked`.
    pub(crate) fn taken_from(&mut self, target: &Target, now: Time, parked: Option<Time>) -> bool {
        let at = self.group(target);
        self.groups[at].stage = Stage::Quiet;
        self.groups[at].parked = parked;
        self.touch(at, now)
    }

    fn touch(&mut self, at: usize, now: Time) -> bool {
        let group = &mut self.groups[at];
        if group.stage != Stage::Quiet {
            return false;
        }
        group.parked = group.parked.filter(|until| *until > now);
        let due = group.waiting.first().map(|first| first.due);
        let timer = match (group.parked, due) {
            (Some(until), _) => Some(until),
            (None, Some(due)) if due > now => Some(due),
            (None, None) if !group.more => None,
            (None, _) => {
                group.stage = Stage::Queued;
                self.queue.push_back(at);
                None
            }
        };
        let changed = timer != group.timer;
        if let Some(old) = group.timer.filter(|_| changed) {
            self.timers.remove(&(old, at));
        }
        group.timer = timer;
        if let Some(new) = timer.filter(|_| changed) {
            self.timers.insert((new, at));
        }
        changed || group.stage == Stage::Queued
    }

    /// Whether an attempt is under way.
    pub(crate) fn is_running(&self, target: &Target, id: InvocationId) -> bool {
        let group = self.by_target.get(target).map(|at| &self.groups[*at]);
        group.is_some_and(|group| group.running.contains(&id))
    }

    /// How many wait in memory, and how many run.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let waiting = self.groups.iter().map(|group| group.waiting.len()).sum();
        let running = self.groups.iter().map(|group| group.running.len()).sum();
        (waiting, running)
    }
}
