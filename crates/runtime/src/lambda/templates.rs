//! Warm templates: processes in which an interpreter has booted and the bootstrap is loaded, so that a cold start is
//! not a boot. Python's fork for every instance; Node's cannot, so that each becomes one.
//!
//! There is one of a kind at most that forks, and a few that do not. The first cold start of a kind has it made, and
//! nothing else does; what nobody asked for an hour is ended, and what would take more memory than all templates may is
//! made only in the place of those used longer ago. A template knows nothing of any instance: its environment has only
//! what an interpreter reads while it boots (and, where the manifest has the handler in it, what the manifest says).

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use model::{ByteSize, Clock, Time};
use parking_lot::Mutex;
use serde::Serialize;

use super::gauge::Gauge;
use crate::launcher::{self, Child, Command, Launcher, Limits};

/// How long a template is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(3600);
/// How long one may take to boot; with a handler that is its own start.
const BOOT: Duration = Duration::from_secs(20);
/// How long one may take to give an instance: far more than the boot that it saves is worth.
const GIVE: Duration = Duration::from_secs(2);
/// Templates of a kind that can be used once; as many are made as starts came in the time that one takes to boot.
const MOST: usize = 4;
/// How long no other is made of a kind that did not boot.
const RESPITE: Duration = Duration::from_secs(300);
/// Memory that is shown as the environment of a fork.
const ROOM: usize = 8 << 10;

/// The templates of a server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Templates(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    kinds: HashMap<Kind, Shelf>,
    stats: TemplateStats,
}

/// What templates have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TemplateStats {
    /// Templates that wait.
    pub ready: usize,
    /// Bytes that they take.
    pub memory: u64,
    /// Templates made so far.
    pub made: u64,
    /// CPU time that making them took, in microseconds.
    pub cpu_us: u64,
    /// Instances that came of one.
    pub used: u64,
    /// Starts of instances that could have come of one, when none was ready.
    pub missed: u64,
}

/// Everything that makes one template differ from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) env: BTreeMap<String, String>,
    /// Whether it forks, or is used up.
    pub(crate) forks: bool,
}

/// The templates of one kind.
struct Shelf {
    ready: Vec<Ready>,
    /// One at a time: a machine that starts instances has no processors to spare.
    making: bool,
    /// Starts since there were enough.
    asked: usize,
    used: Time,
    /// When one did not boot, last.
    failed: Option<Time>,
}

struct Ready {
    template: Arc<launcher::Template>,
    memory: u64,
}

/// What making templates needs of its surroundings.
pub(crate) struct Means {
    pub(crate) launcher: Launcher,
    pub(crate) clock: Clock,
    /// Memory of all templates together.
    pub(crate) budget: ByteSize,
    /// Told why one did not boot.
    pub(crate) tell: Box<dyn FnOnce(String) + Send + Sync>,
}

impl Templates {
    /// What they have done, and how many wait.
    #[must_use]
    pub fn stats(&self) -> TemplateStats {
        let state = self.0.lock();
        let ready = state.kinds.values().flat_map(|shelf| &shelf.ready);
        let memory = ready.clone().map(|one| one.memory).sum();
        let ready = ready.count();
        TemplateStats {
            ready,
            memory,
            ..state.stats
        }
    }

    /// An instance of a template of this kind; `None` when none is ready, or does what it should.
    pub(crate) async fn instance(
        &self,
        kind: &Kind,
        command: &Command,
        clock: &Clock,
    ) -> Option<Child> {
        let template = self.take(kind, clock.now())?;
        let instance = async {
            if kind.forks {
                return template.fork(command.clone()).await.ok();
            }
            // Nobody else has it: it was taken from the shelf.
            let template = Arc::into_inner(template)?;
            template.assign(command.clone()).await.ok()
        };
        let instance = tokio::select! {
            instance = instance => instance,
            () = clock.sleep(GIVE) => None,
        };
        let mut state = self.0.lock();
        match &instance {
            Some(_) => state.stats.used += 1,
            // One that does not fork now will not later.
            None => drop(state.kinds.remove(kind)),
        }
        instance
    }

    fn take(&self, kind: &Kind, now: Time) -> Option<Arc<launcher::Template>> {
        let mut state = self.0.lock();
        let State { kinds, stats } = &mut *state;
        let taken = kinds.get_mut(kind).and_then(|shelf| {
            shelf.asked += 1;
            shelf.used = now;
            shelf.ready.retain(|ready| ready.template.is_alive());
            if kind.forks {
                return shelf.ready.first().map(|ready| Arc::clone(&ready.template));
            }
            shelf.ready.pop().map(|ready| ready.template)
        });
        stats.missed += u64::from(taken.is_none());
        taken
    }

    /// Has templates of this kind made, as many as are worth it, in a task of its own.
    pub(crate) fn want(&self, kind: &Kind, means: Means) {
        let now = means.clock.now();
        let mut state = self.0.lock();
        let is_new = !state.kinds.contains_key(kind);
        let shelf = state.kinds.entry(kind.clone()).or_insert_with(|| Shelf {
            ready: Vec::new(),
            making: false,
            asked: 1,
            used: now,
            failed: None,
        });
        shelf.used = now;
        let failed = shelf.failed.is_some_and(|at| at + RESPITE > now);
        if failed || shelf.making || !shelf.lacks(kind) {
            return;
        }
        shelf.making = true;
        drop(state);
        if is_new {
            let clock = means.clock.clone();
            tokio::spawn(keep(Arc::downgrade(&self.0), kind.clone(), clock));
        }
        tokio::spawn(make(Arc::downgrade(&self.0), kind.clone(), means));
    }

    /// One has booted; it is kept if there is room for it. Whether another is worth making.
    fn put(&self, kind: &Kind, template: launcher::Template, budget: ByteSize, now: Time) -> bool {
        let used = Gauge::new(template.pid(), false).read().unwrap_or_default();
        let mut state = self.0.lock();
        state.stats.made += 1;
        state.stats.cpu_us += u64::try_from(used.cpu.as_micros()).unwrap_or(u64::MAX);
        let fits = make_room(&mut state.kinds, kind, used.memory, budget.0);
        let Some(shelf) = state.kinds.get_mut(kind) else {
            return false;
        };
        if fits {
            shelf.ready.push(Ready {
                template: Arc::new(template),
                memory: used.memory,
            });
        } else {
            // Another try would end the same way.
            shelf.failed = Some(now);
        }
        shelf.making = fits && shelf.lacks(kind);
        shelf.making
    }

    fn did_not_boot(&self, kind: &Kind, now: Time) {
        if let Some(shelf) = self.0.lock().kinds.get_mut(kind) {
            shelf.making = false;
            shelf.failed = Some(now);
        }
    }

    /// Ends what there is of this kind: it will not be asked for again.
    pub(crate) fn forget(&self, kind: &Kind) {
        self.0.lock().kinds.remove(kind);
    }
}

impl Shelf {
    /// Whether fewer are ready than there were starts since there were enough.
    fn lacks(&mut self, kind: &Kind) -> bool {
        let most = if kind.forks { 1 } else { MOST };
        let lacks = self.ready.len() < self.asked.clamp(1, most);
        if !lacks {
            self.asked = 0;
        }
        lacks
    }
}

/// Makes templates of a kind until there are enough.
async fn make(templates: Weak<Mutex<State>>, kind: Kind, means: Means) {
    loop {
        let made = boot(&kind, &means.launcher, &means.clock).await;
        let Some(templates) = templates.upgrade().map(Templates) else {
            return;
        };
        let now = means.clock.now();
        match made {
            Ok(template) => {
                if !templates.put(&kind, template, means.budget, now) {
                    return;
                }
            }
            Err(reason) => {
                templates.did_not_boot(&kind, now);
                return (means.tell)(reason);
            }
        }
    }
}

/// Ends templates of other kinds, those used longest ago first, until `more` bytes fit; whether they do.
fn make_room(kinds: &mut HashMap<Kind, Shelf>, kind: &Kind, more: u64, budget: u64) -> bool {
    let held = |shelf: &Shelf| shelf.ready.iter().map(|one| one.memory).sum::<u64>();
    loop {
        if kinds.values().map(held).sum::<u64>() + more <= budget {
            return true;
        }
        let others = kinds
            .iter()
            .filter(|(other, shelf)| *other != kind && !shelf.ready.is_empty());
        let Some(oldest) = others.min_by_key(|(_, shelf)| shelf.used) else {
            return false;
        };
        let oldest = oldest.0.clone();
        if let Some(shelf) = kinds.get_mut(&oldest) {
            shelf.ready.clear();
        }
    }
}

/// Boots one, and drops what it writes.
async fn boot(
    kind: &Kind,
    launcher: &Launcher,
    clock: &Clock,
) -> Result<launcher::Template, String> {
    let mut command = Command::new(&kind.program, &kind.cwd);
    command.args.clone_from(&kind.args);
    let env = kind.env.iter();
    command.env = env.map(|(k, v)| (k.clone(), v.clone())).collect();
    // An instance's environment is shown where the template's was, and is longer.
    command
        .env
        .push(("TANGELO_ROOM".to_owned(), "-".repeat(ROOM)));
    command.limits = Limits::default();
    command.forks = kind.forks;
    let mut template = tokio::select! {
        template = launcher.template(command) => template.map_err(|e| e.to_string())?,
        () = clock.sleep(BOOT) => return Err(format!("it was not ready after {} s", BOOT.as_secs())),
    };
    // What becomes an instance itself keeps its pipes; a fork has others.
    if kind.forks {
        let child = template.child();
        let pipes = [child.stdout.take(), child.stderr.take()];
        for mut pipe in pipes.into_iter().flatten() {
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
            });
        }
    }
    Ok(template)
}

/// Ends the templates of a kind when nobody has used them for [`IDLE`].
async fn keep(templates: Weak<Mutex<State>>, kind: Kind, clock: Clock) {
    let mut until = clock.now() + IDLE;
    loop {
        clock.sleep_until(until).await;
        let Some(state) = templates.upgrade() else {
            return;
        };
        let mut state = state.lock();
        let Some(shelf) = state.kinds.get(&kind) else {
            return;
        };
        until = shelf.used + IDLE;
        if until <= clock.now() {
            state.kinds.remove(&kind);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> Kind {
        Kind {
            program: name.into(),
            args: Vec::new(),
            cwd: "/".into(),
            env: BTreeMap::new(),
            forks: true,
        }
    }

    #[test]
    fn what_can_never_fit_ends_only_others_and_is_not_kept() {
        let mut kinds = HashMap::new();
        assert!(make_room(&mut kinds, &kind("a"), 10, 10));
        assert!(!make_room(&mut kinds, &kind("a"), 11, 10));
    }
}
