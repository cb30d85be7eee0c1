//! What invocations consumed, counted for every one of them in tables per core, whatever becomes of its trace.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use model::{AppName, ColdStart, InstanceUsage, Name, Tier, Time, Usage, WorkloadName};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{histogram::Histogram, ring::own_shard};

/// Keys counted apart per core between two flushes; what comes beyond is counted under no name.
const KEYS: usize = 4096;

/// What usage is counted by. Made once for many invocations: its hash is part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageKey {
    hash: u64,
    /// The app.
    pub app: AppName,
    /// The workload.
    pub workload: WorkloadName,
    /// Function, service or job.
    pub tier: Tier,
    /// What caused the invocation: `Trigger::kind`.
    pub trigger: &'static str,
}

impl UsageKey {
    /// The key of invocations of a workload that were caused in one way.
    #[must_use]
    pub fn new(app: AppName, workload: WorkloadName, tier: Tier, trigger: &'static str) -> Self {
        let mut hasher = DefaultHasher::new();
        (&app, &workload, tier, trigger).hash(&mut hasher);
        Self {
            hash: hasher.finish(),
            app,
            workload,
            tier,
            trigger,
        }
    }
}

impl Hash for UsageKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Takes the hash that a key has.
#[derive(Default)]
struct Own(u64);

impl Hasher for Own {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = self.0.rotate_left(8) ^ hash;
    }
}

/// The trigger of what instances used whether or not something was triggered.
pub(crate) const INSTANCE: &str = "instance";

/// Which usage is asked for; the default is all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageFilter {
    /// Only of this app.
    pub app: Option<AppName>,
    /// Only of this workload.
    pub workload: Option<WorkloadName>,
    /// Only of the hour in which this lies, and later ones.
    pub since: Time,
}

/// What one workload consumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// The app.
    pub app: AppName,
    /// The workload.
    pub workload: WorkloadName,
    /// `function`, `service` or `job`.
    pub tier: String,
    /// Invocations by what caused them.
    pub triggers: BTreeMap<String, u64>,
    /// Invocations that ended.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Half of them took no longer, in microseconds (within 3 %).
    pub p50_us: u64,
    /// 99 % of them took no longer, in microseconds (within 3 %).
    pub p99_us: u64,
    /// The sum of their durations, in microseconds.
    pub wall_us: u64,
    /// The sum of their CPU time, in microseconds, as far as it could be told; 0 where it is not measured (`webhook`, `pull`, `external`).
    pub cpu_us: u64,
    /// The highest peak of memory, in bytes; 0 when unknown.
    pub memory: u64,
    /// Body bytes in.
    pub bytes_in: u64,
    /// Body bytes out.
    pub bytes_out: u64,
    /// Their cold starts.
    pub cold_starts: ColdStarts,
    /// How long instances were there, added up, in microseconds; 0 where nothing is started for it (`wasm`, `external`).
    #[serde(default)]
    pub instance_us: u64,
    /// Their CPU time, in microseconds, whatever they used it for.
    #[serde(default)]
    pub instance_cpu_us: u64,
    /// Their bytes of memory times the seconds for which they had them.
    #[serde(default)]
    pub instance_byte_seconds: u64,
}

/// Cold starts, and the sums of their phases in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ColdStarts {
    /// Invocations that waited for one.
    pub count: u64,
    /// Waiting for a place or for another instance's start.
    pub wait_us: u64,
    /// Reading, compiling or mapping code.
    pub load_us: u64,
    /// Making the process or the Wasm store.
    pub spawn_us: u64,
    /// The start of a handler's extensions.
    #[serde(default)]
    pub extensions_us: u64,
    /// The workload's own start.
    pub init_us: u64,
}

/// Sums over invocations.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Sums {
    pub(crate) invocations: u64,
    pub(crate) errors: u64,
    pub(crate) wall_us: u64,
    pub(crate) cpu_us: u64,
    pub(crate) memory: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) cold: ColdStarts,
    pub(crate) latency: Histogram,
    pub(crate) instances: Instances,
}

/// Sums over instances.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Instances {
    pub(crate) lived_us: u64,
    pub(crate) cpu_us: u64,
    pub(crate) byte_seconds: u64,
}

/// The tables of all cores.
pub(crate) struct Counters {
    shards: Box<[Shard]>,
    pub(crate) folded: AtomicU64,
}

#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<HashMap<UsageKey, Sums, BuildHasherDefault<Own>>>);

impl Counters {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards.max(1)).map(|_| Shard::default()).collect(),
            folded: AtomicU64::new(0),
        }
    }

    pub(crate) fn record(&self, key: &UsageKey, usage: &Usage, ok: bool) {
        self.count(key, |sums| sums.record(usage, ok));
    }

    pub(crate) fn record_instances(&self, key: &UsageKey, used: &InstanceUsage) {
        self.count(key, |sums| sums.instances.add(&Instances::from(*used)));
    }

    fn count(&self, key: &UsageKey, count: impl FnOnce(&mut Sums)) {
        let mut sums = self.shards[own_shard() % self.shards.len()].0.lock();
        if let Some(sums) = sums.get_mut(key) {
            return count(sums);
        }
        let key = if sums.len() < KEYS {
            key.clone()
        } else {
            self.folded()
        };
        count(sums.entry(key).or_default());
    }

    /// The key of what can no longer be told apart; the bill stays complete.
    fn folded(&self) -> UsageKey {
        self.folded.fetch_add(1, Relaxed);
        let other = Name::literal("other");
        UsageKey::new(other.clone(), other, Tier::Function, "other")
    }

    /// Takes what was counted since the last time.
    pub(crate) fn drain(&self) -> impl Iterator<Item = (UsageKey, Sums)> {
        self.shards
            .iter()
            .flat_map(|shard| std::mem::take(&mut *shard.0.lock()))
    }
}

impl Sums {
    pub(crate) fn record(&mut self, usage: &Usage, ok: bool) {
        self.invocations += 1;
        self.errors += u64::from(!ok);
        self.wall_us += micros(usage.wall);
        self.cpu_us += micros(usage.cpu);
        self.memory = self.memory.max(usage.memory);
        self.bytes_in += usage.bytes_in;
        self.bytes_out += usage.bytes_out;
        self.latency.record(usage.wall);
        if let Some(cold) = usage.cold_start {
            self.cold.add(&ColdStarts::from(cold));
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.invocations += other.invocations;
        self.errors += other.errors;
        self.wall_us += other.wall_us;
        self.cpu_us += other.cpu_us;
        self.memory = self.memory.max(other.memory);
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.cold.add(&other.cold);
        self.latency.add(&other.latency);
        self.instances.add(&other.instances);
    }
}

impl Instances {
    const fn add(&mut self, other: &Self) {
        self.lived_us = self.lived_us.saturating_add(other.lived_us);
        self.cpu_us = self.cpu_us.saturating_add(other.cpu_us);
        self.byte_seconds = self.byte_seconds.saturating_add(other.byte_seconds);
    }
}

impl From<InstanceUsage> for Instances {
    fn from(used: InstanceUsage) -> Self {
        Self {
            lived_us: micros(used.lived),
            cpu_us: micros(used.cpu),
            byte_seconds: used.byte_seconds,
        }
    }
}

impl ColdStarts {
    const fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.wait_us += other.wait_us;
        self.load_us += other.load_us;
        self.spawn_us += other.spawn_us;
        self.extensions_us += other.extensions_us;
        self.init_us += other.init_us;
    }
}

impl From<ColdStart> for ColdStarts {
    fn from(cold: ColdStart) -> Self {
        Self {
            count: 1,
            wait_us: micros(cold.wait),
            load_us: micros(cold.load),
            spawn_us: micros(cold.spawn),
            extensions_us: micros(cold.extensions),
            init_us: micros(cold.init),
        }
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn key(workload: &str) -> UsageKey {
        let workload = Name::new(workload).expect("a name");
        UsageKey::new(Name::literal("shop"), workload, Tier::Function, "route")
    }

    #[test]
    fn every_invocation_is_counted_once_whatever_the_core() {
        let counters = Counters::new(4);
        let usage = Usage {
            wall: Duration::from_millis(2),
            memory: 7,
            ..Usage::default()
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    (0..100).for_each(|n| counters.record(&key("a"), &usage, n % 10 > 0))
                });
            }
        });
        let mut total = Sums::default();
        counters.drain().for_each(|(_, sums)| total.add(&sums));
        assert_eq!(
            (total.invocations, total.errors, total.memory),
            (800, 80, 7)
        );
        assert_eq!((total.wall_us, total.latency.count()), (1_600_000, 800));
        assert_eq!(counters.drain().count(), 0);
    }

    #[test]
    fn too_many_names_are_counted_under_none() {
        let counters = Counters::new(1);
        for n in 0..KEYS + 10 {
            counters.record(&key(&format!("w{n}")), &Usage::default(), true);
        }
        assert_eq!(counters.folded.load(Relaxed), 10);
        let all: Vec<_> = counters.drain().collect();
        assert_eq!(
            all.iter().map(|(_, s)| s.invocations).sum::<u64>(),
            KEYS as u64 + 10
        );
        assert_eq!(all.len(), KEYS + 1);
    }
}
