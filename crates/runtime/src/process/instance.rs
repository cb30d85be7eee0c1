//! One instance as its pool and its life share it: where it listens, what it was told, how it ended.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use model::{ColdStart, Name, Time};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::measure::{Measured, measure};
use crate::{
    host::Presence,
    launcher::Exit,
    upstream::{Origin, Upstream},
};

/// The shortest time over which the use of CPU says something: the system counts it in hundredths of a second.
const SAMPLE: Duration = Duration::from_millis(500);

/// Lines of standard error that are kept to explain an end.
const TAIL: usize = 20;

/// One running copy.
pub(super) struct Instance {
    /// Its number in the books.
    pub(super) number: u64,
    pub(super) presence: Arc<Presence>,
    pub(super) since: Time,
    pub(super) created: Instant,
    /// 0 before it has one.
    pub(super) pid: AtomicU32,
    /// What it is to do.
    pub(super) order: watch::Sender<Order>,
    /// Told when it works on nothing any more.
    pub(super) quiet: Notify,
    /// Told when it refused a connection.
    pub(super) suspected: Notify,
    /// How it ended.
    pub(super) exit: watch::Sender<Option<Exit>>,
    /// What it last answered to a probe that it fails, while it does.
    pub(super) problem: Mutex<Option<String>>,
    /// Its ports beside the one that requests come by.
    pub(super) ports: Mutex<BTreeMap<Name, u16>>,
    upstream: OnceLock<Arc<Upstream>>,
    started: OnceLock<Started>,
    tail: Mutex<VecDeque<String>>,
    used: Mutex<Used>,
    /// User and system time that it was seen to have used.
    cpu_us: AtomicU64,
}

/// What an instance was last seen to use.
#[derive(Debug, Default)]
struct Used {
    /// When, and how much CPU time that was since its start.
    last: Option<(Instant, Duration)>,
    /// Thousandths of a CPU since the time before.
    millis: u64,
}

/// What an instance is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Serve.
    Stay,
    /// End: finish what there is until `by`, then be asked to end and killed after `patience`.
    Leave { by: Instant, patience: Duration },
}

/// When an instance got how far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started {
    pub(super) spawned: Instant,
    pub(super) ready: Instant,
}

impl Instance {
    pub(super) fn new(number: u64, presence: Presence, since: Time, created: Instant) -> Arc<Self> {
        Arc::new(Self {
            number,
            presence: Arc::new(presence),
            since,
            created,
            pid: AtomicU32::new(0),
            order: watch::Sender::new(Order::Stay),
            quiet: Notify::new(),
            suspected: Notify::new(),
            exit: watch::Sender::new(None),
            problem: Mutex::default(),
            ports: Mutex::default(),
            used: Mutex::default(),
            cpu_us: AtomicU64::new(0),
            upstream: OnceLock::new(),
            started: OnceLock::new(),
            tail: Mutex::default(),
        })
    }

    /// It serves from now on.
    pub(super) fn set_ready(&self, upstream: Arc<Upstream>, started: Started) {
        let _ = self.upstream.set(upstream);
        let _ = self.started.set(started);
    }

    /// Where it listens; only who has a place with it asks, and places exist only once it is ready.
    pub(super) fn upstream(&self) -> Option<&Arc<Upstream>> {
        self.upstream.get()
    }

    pub(super) fn order(&self, order: Order) {
        self.order.send_replace(order);
    }

    pub(super) fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Relaxed)).filter(|pid| *pid != 0)
    }

    /// Thousandths of a CPU that it uses of late; 0 where that cannot be seen. Reads `/proc`, unless that was just done.
    pub(super) fn cpu(&self, now: Instant) -> u64 {
        let Some(pid) = self.pid() else {
            return 0;
        };
        let mut used = self.used.lock();
        let since = used.last.map(|(at, _)| now.saturating_duration_since(at));
        if since.is_some_and(|since| since < SAMPLE) {
            return used.millis;
        }
        let cpu = self.measure(pid).cpu;
        if let (Some((_, before)), Some(since)) = (used.last, since) {
            let more = cpu.saturating_sub(before).as_secs_f64();
            used.millis = (more / since.as_secs_f64() * 1000.0).round() as u64;
        }
        used.last = Some((now, cpu));
        used.millis
    }

    /// What it uses now, as the system says.
    pub(super) fn measured(&self) -> Measured {
        self.pid().map(|pid| self.measure(pid)).unwrap_or_default()
    }

    /// The CPU time that it was last seen to have used.
    pub(super) fn cpu_seen(&self) -> Duration {
        Duration::from_micros(self.cpu_us.load(Relaxed))
    }

    fn measure(&self, pid: u32) -> Measured {
        let measured = measure(pid);
        let micros = u64::try_from(measured.cpu.as_micros()).unwrap_or(u64::MAX);
        // What ended without being waited for takes its time along: what was seen stays.
        let before = self.cpu_us.fetch_max(micros, Relaxed);
        Measured {
            cpu: Duration::from_micros(before.max(micros)),
            ..measured
        }
    }

    /// What one who waited from `arrived` until `now` waited for, if it was for this instance's start.
    pub(super) fn cold_start(&self, arrived: Instant, now: Instant) -> Option<ColdStart> {
        let started = self.started.get().filter(|s| s.ready > arrived)?;
        let since = |from: Instant, to: Instant| {
            let (from, to) = (from.max(arrived), to.min(now));
            to.saturating_duration_since(from)
        };
        let spawn = since(self.created, started.spawned);
        let init = since(started.spawned, started.ready);
        let total = now.saturating_duration_since(arrived);
        Some(ColdStart {
            wait: total.saturating_sub(spawn).saturating_sub(init),
            load: Duration::ZERO,
            spawn,
            init,
            extensions: Duration::ZERO,
            template: false,
        })
    }

    /// Keeps a line of standard error, for the case that it is one of the last.
    pub(super) fn remember(&self, line: &str) {
        let mut tail = self.tail.lock();
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line.chars().take(400).collect());
    }

    /// The last lines of standard error.
    pub(super) fn last_lines(&self) -> String {
        let tail = self.tail.lock();
        tail.iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// The upstream of a port.
pub(super) fn upstream(address: std::net::SocketAddr, clock: &model::Clock) -> Arc<Upstream> {
    Upstream::new(Origin::Here(address), clock.clone())
}
