//! Usage since the start, and per hour for `state.db`. Rows are absolute, so that a flush that failed or was cut
//! off is simply made again.

use std::collections::{BTreeMap, HashMap};

use model::{Name, Time};
use store::{Store, telemetry as stored};

use crate::{
    histogram::Histogram,
    usage::{ColdStarts, INSTANCE, Instances, Sums, UsageFilter, UsageKey, UsageRow},
};

/// Microseconds of an hour.
const HOUR: u64 = 3_600_000_000;

/// Hours kept here when there is no store.
const WITHOUT_STORE: u64 = 48;

/// What was used.
pub(crate) struct Ledger {
    store: Option<Store>,
    boot: Time,
    /// Hours that may still change or are not yet stored.
    hours: HashMap<(Time, UsageKey), Hour>,
    /// Since the start, for `/metrics`.
    totals: HashMap<UsageKey, Sums>,
}

#[derive(Default)]
struct Hour {
    sums: Sums,
    /// Whether the store knows less.
    dirty: bool,
}

impl Ledger {
    pub(crate) fn new(store: Option<Store>, boot: Time) -> Self {
        Self {
            store,
            boot,
            hours: HashMap::new(),
            totals: HashMap::new(),
        }
    }

    /// Adds what was counted lately.
    pub(crate) fn add(&mut self, counted: impl Iterator<Item = (UsageKey, Sums)>, now: Time) {
        let hour = hour_of(now);
        for (key, sums) in counted {
            self.totals.entry(key.clone()).or_default().add(&sums);
            let entry = self.hours.entry((hour, key)).or_default();
            entry.sums.add(&sums);
            entry.dirty = true;
        }
        let stored = self.store.is_some();
        self.hours.retain(|(at, _), entry| {
            let over = now.0.saturating_sub(at.0) > WITHOUT_STORE * HOUR;
            *at == hour || if stored { entry.dirty } else { !over }
        });
    }

    /// The store and the rows that it should learn.
    pub(crate) fn to_store(&self) -> Option<(Store, Vec<stored::UsageRow>)> {
        let dirty = self.hours.iter().filter(|(_, entry)| entry.dirty);
        let rows: Vec<_> = dirty
            .map(|((hour, key), e)| self.row(*hour, key, &e.sums))
            .collect();
        let store = self.store.clone()?;
        (!rows.is_empty()).then_some((store, rows))
    }

    /// The store knows all that is here.
    pub(crate) fn stored(&mut self) {
        self.hours
            .values_mut()
            .for_each(|entry| entry.dirty = false);
    }

    fn row(&self, hour: Time, key: &UsageKey, sums: &Sums) -> stored::UsageRow {
        let cold = sums.cold;
        stored::UsageRow {
            hour,
            app: key.app.clone(),
            workload: key.workload.clone(),
            tier: key.tier.as_str().to_owned(),
            trigger: key.trigger.to_owned(),
            boot: self.boot,
            invocations: sums.invocations,
            errors: sums.errors,
            wall_us: sums.wall_us,
            cpu_us: sums.cpu_us,
            memory: sums.memory,
            bytes_in: sums.bytes_in,
            bytes_out: sums.bytes_out,
            cold_starts: cold.count,
            cold_us: [
                cold.wait_us,
                cold.load_us,
                cold.spawn_us,
                cold.extensions_us,
                cold.init_us,
            ],
            latency: sums.latency.encode(),
            instance_us: sums.instances.lived_us,
            instance_cpu_us: sums.instances.cpu_us,
            instance_byte_seconds: sums.instances.byte_seconds,
        }
    }

    /// What the filter asks for, of this start and of earlier ones, by app and workload.
    pub(crate) fn report(&self, filter: &UsageFilter) -> Vec<UsageRow> {
        let mut report = Report::default();
        let here = self
            .hours
            .iter()
            .filter(|((hour, _), _)| *hour >= hour_of(filter.since));
        for ((_, key), entry) in here {
            report.add(
                filter,
                (&key.app, &key.workload, key.tier.as_str()),
                key.trigger,
                &entry.sums,
            );
        }
        for row in self.elsewhere(filter) {
            let of = (&row.app, &row.workload, row.tier.as_str());
            report.add(filter, of, &row.trigger, &sums_of(&row));
        }
        report.rows()
    }

    /// Rows of the store that are not here.
    fn elsewhere(&self, filter: &UsageFilter) -> Vec<stored::UsageRow> {
        let Some(store) = &self.store else {
            return Vec::new();
        };
        let app = filter.app.as_ref().map(Name::as_str);
        let rows = store.usage().rows_blocking(hour_of(filter.since), app);
        let mut rows = rows.unwrap_or_else(|error| {
            tracing::warn!(%error, "the usage of earlier hours cannot be read");
            Vec::new()
        });
        rows.retain(|row| row.boot != self.boot || !self.holds(row));
        rows
    }

    fn holds(&self, row: &stored::UsageRow) -> bool {
        let same = |(hour, key): &(Time, UsageKey)| {
            (*hour, &key.app, &key.workload) == (row.hour, &row.app, &row.workload)
                && (key.tier.as_str(), key.trigger) == (row.tier.as_str(), row.trigger.as_str())
        };
        self.hours.keys().any(same)
    }

    /// Since the start, by key.
    pub(crate) fn totals(&self) -> Vec<(UsageKey, Sums)> {
        let mut all: Vec<_> = self
            .totals
            .iter()
            .map(|(k, s)| (k.clone(), s.clone()))
            .collect();
        let order = |key: &UsageKey| {
            (
                key.app.clone(),
                key.workload.clone(),
                key.tier as u8,
                key.trigger,
            )
        };
        all.sort_by_key(|(key, _)| order(key));
        all
    }
}

/// Sums of one report by app, workload and tier, with invocations by trigger.
#[derive(Default)]
struct Report(BTreeMap<Of, (Sums, Triggers)>);

/// App, workload and tier.
type Of = (Name, Name, String);

/// Invocations by what caused them.
type Triggers = BTreeMap<String, u64>;

impl Report {
    fn add(&mut self, filter: &UsageFilter, of: (&Name, &Name, &str), trigger: &str, sums: &Sums) {
        let (app, workload, tier) = of;
        let wanted = filter.app.as_ref().is_none_or(|a| a == app)
            && filter.workload.as_ref().is_none_or(|w| w == workload);
        if wanted {
            let key = (app.clone(), workload.clone(), tier.to_owned());
            let (all, triggers) = self.0.entry(key).or_default();
            all.add(sums);
            if trigger != INSTANCE {
                *triggers.entry(trigger.to_owned()).or_default() += sums.invocations;
            }
        }
    }

    fn rows(self) -> Vec<UsageRow> {
        let micros = |sums: &Sums, q| crate::usage::micros(sums.latency.quantile(q));
        let row = |((app, workload, tier), (sums, triggers)): (Of, (Sums, Triggers))| UsageRow {
            app,
            workload,
            tier,
            triggers,
            requests: sums.invocations,
            errors: sums.errors,
            p50_us: micros(&sums, 0.5),
            p99_us: micros(&sums, 0.99),
            wall_us: sums.wall_us,
            cpu_us: sums.cpu_us,
            memory: sums.memory,
            bytes_in: sums.bytes_in,
            bytes_out: sums.bytes_out,
            cold_starts: sums.cold,
            instance_us: sums.instances.lived_us,
            instance_cpu_us: sums.instances.cpu_us,
            instance_byte_seconds: sums.instances.byte_seconds,
        };
        self.0.into_iter().map(row).collect()
    }
}

fn hour_of(time: Time) -> Time {
    Time(time.0 - time.0 % HOUR)
}

fn sums_of(row: &stored::UsageRow) -> Sums {
    let [wait_us, load_us, spawn_us, extensions_us, init_us] = row.cold_us;
    Sums {
        invocations: row.invocations,
        errors: row.errors,
        wall_us: row.wall_us,
        cpu_us: row.cpu_us,
        memory: row.memory,
        bytes_in: row.bytes_in,
        bytes_out: row.bytes_out,
        cold: ColdStarts {
            count: row.cold_starts,
            wait_us,
            load_us,
            spawn_us,
            extensions_us,
            init_us,
        },
        latency: Histogram::decode(&row.latency).unwrap_or_default(),
        instances: Instances {
            lived_us: row.instance_us,
            cpu_us: row.instance_cpu_us,
            byte_seconds: row.instance_byte_seconds,
        },
    }
}
