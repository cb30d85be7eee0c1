//! Looks at the server all the time, here at its subscriptions, and notes which deliveries it says are settled: an
//! acknowledgement that outlives the server, since it comes from its disk.
//!
//! A delivery counts as settled when the sink had taken it before the look began and the look says that nothing up to its
//! position waits. What the sink gets of it after the look ended, it must not get.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::anyhow;

use super::{control::Control, ledger, publishers::Shared};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// For each idempotency key how long the ledger was when its delivery was seen to be settled.
pub(super) type Settled = HashMap<String, usize>;

/// Who looks.
pub(super) trait Look: Send + 'static {
    /// Looks once, and notes what it sees settled.
    fn once(&mut self, settled: &mut Settled) -> anyhow::Result<()>;
}

/// A thread that looks.
pub(super) struct Observer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Settled>>,
}

impl Observer {
    /// Looks again and again.
    pub(super) fn start(mut look: impl Look) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut settled = Settled::new();
            while !told.load(Relaxed) {
                look.once(&mut settled)?;
                thread::sleep(PAUSE);
            }
            Ok(settled)
        });
        Self { stop, thread }
    }

    /// Ends it; what it saw.
    pub(super) fn stop(self) -> anyhow::Result<Settled> {
        self.stop.store(true, Relaxed);
        let joined = self.thread.join();
        joined.map_err(|_| anyhow!("the observer panicked"))?
    }
}

/// What the sink took and nobody has seen settled yet, of one subscription.
struct Pending {
    subscription: &'static str,
    keys: BTreeMap<u64, Vec<String>>,
}

impl Pending {
    const fn of(subscription: &'static str) -> Self {
        Self {
            subscription,
            keys: BTreeMap::new(),
        }
    }

    /// Idempotency keys begin with the subscription.
    fn has(&self, key: &str) -> bool {
        let rest = key.strip_prefix(self.subscription);
        rest.is_some_and(|rest| rest.starts_with(':'))
    }
}

/// Looks at subscriptions.
pub(super) struct Subscriptions {
    control: Control,
    ledger: PathBuf,
    shared: Arc<Shared>,
    counts: bool,
    /// How far the ledger was read.
    read: usize,
    known: Vec<Pending>,
    /// Taken, but not yet acknowledged to whoever published it: id and idempotency key.
    placeless: Vec<(String, String)>,
}

impl Look for Subscriptions {
    fn once(&mut self, settled: &mut Settled) -> anyhow::Result<()> {
        self.read_on(settled)?;
        for nth in 0..self.known.len() {
            let subscription = self.known[nth].subscription;
            // Between two servers there is nobody to ask.
            let Ok(stands) = self.control.stands(subscription) else {
                continue;
            };
            let long = length(&self.ledger)?;
            let pending = &mut self.known[nth].keys;
            let waits = pending.split_off(&(stands.settled + 1));
            for key in std::mem::replace(pending, waits).into_values().flatten() {
                if self.counts {
                    self.shared.acknowledge();
                }
                settled.entry(key).or_insert(long);
            }
        }
        Ok(())
    }
}

impl Subscriptions {
    /// What is seen settled, `shared` counts as acknowledged where it is to count.
    pub(super) fn new(
        control: Control,
        ledger: PathBuf,
        subscriptions: &'static [&'static str],
        (shared, counts): (Arc<Shared>, bool),
    ) -> Self {
        Self {
            control,
            ledger,
            shared,
            counts,
            read: 0,
            known: subscriptions.iter().map(|name| Pending::of(name)).collect(),
            placeless: Vec::new(),
        }
    }

    /// What the sink took since.
    fn read_on(&mut self, settled: &Settled) -> anyhow::Result<()> {
        let mut file = File::open(&self.ledger)?;
        file.seek(SeekFrom::Start(self.read as u64))?;
        let mut part = String::new();
        file.read_to_string(&mut part)?;
        let complete = part.rfind('\n').map_or(0, |end| end + 1);
        for line in ledger::lines(&part[..complete], self.read) {
            // What was seen settled already is counted once.
            if line.taken && !settled.contains_key(line.key) {
                let id = ledger::id(line.item).to_owned();
                self.placeless.push((id, line.key.to_owned()));
            }
        }
        self.read += complete;
        let positions = self.shared.positions();
        let known = &mut self.known;
        self.placeless.retain(|(id, key)| {
            let Some(position) = positions.get(id) else {
                return true;
            };
            if let Some(pending) = known.iter_mut().find(|pending| pending.has(key)) {
                let at = pending.keys.entry(*position).or_default();
                if !at.contains(key) {
                    at.push(key.clone());
                }
            }
            false
        });
        Ok(())
    }
}

/// How long a ledger is, in bytes.
pub(super) fn length(file: &Path) -> anyhow::Result<usize> {
    Ok(usize::try_from(file.metadata()?.len())?)
}
