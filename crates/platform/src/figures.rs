//! What the platform's parts say of themselves, as metrics. What invocations used is telemetry's own.

use std::sync::atomic::AtomicU64;

use model::Time;
use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use runtime::wasm::Used;

use crate::{
    Platform,
    bridges::{WayState, WayStatus},
};

/// A figure: its name, what it is, and how much of it there is.
type Figure = (&'static str, &'static str, u64);

/// A figure of the pool of Wasm guests, by what it is of.
type PoolFigure = (&'static str, &'static str, fn(Used) -> u64);

/// A figure of a log, by when it is asked.
type LogFigure = (&'static str, &'static str, fn(&bus::LogState, Time) -> u64);

/// A figure of a way of a bridge.
type WayFigure = (&'static str, &'static str, fn(&WayStatus) -> u64);

const POOL: [PoolFigure; 2] = [
    (
        "tangelo_wasm_pool_used",
        "What Wasm guests use of their pool",
        |used| used.used,
    ),
    (
        "tangelo_wasm_pool_most",
        "What their pool has of it",
        |used| used.most,
    ),
];

impl Platform {
    /// Everything there is to measure, as OpenMetrics text.
    pub async fn metrics(&self) -> String {
        let projections = self.projections().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "projections cannot be measured");
            Vec::new()
        });
        let logs = self.logs().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the log cannot be measured");
            Vec::new()
        });
        let pool = self.wasm_totals();
        let unused = (
            "tangelo_wasm_resident_unused_bytes",
            "Bytes that stay resident for the next Wasm guest",
            pool.resident_unused,
        );
        let figures = [
            &self.figures_of_templates()[..],
            &[unused],
            &self.figures_of_the_store(),
            &self.figures_of_the_bus(),
            &self.figures_of_outboxes(),
        ]
        .concat();
        self.telemetry().metrics_text(|registry| {
            for (name, help, value) in figures {
                let gauge = Gauge::<i64>::default();
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
                registry.register(name, help, gauge);
            }
            register_lags(registry, &projections);
            register_bridges(registry, &self.bridges());
            register_logs(registry, &logs, self.clock().now());
            for (name, help, pick) in POOL {
                let family = Family::<[(&str, &str); 1], Gauge>::default();
                for (kind, used) in pool.kinds() {
                    let gauge = family.get_or_create(&[("kind", kind)]);
                    gauge.set(i64::try_from(pick(used)).unwrap_or(i64::MAX));
                }
                registry.register(name, help, family);
            }
        })
    }

    fn figures_of_templates(&self) -> [Figure; 6] {
        let templates = self.deployer().runtime.templates();
        [
            (
                "tangelo_templates_ready",
                "Warm templates of Lambda runtimes that wait",
                templates.ready as u64,
            ),
            (
                "tangelo_templates_bytes",
                "Memory of those templates",
                templates.memory,
            ),
            (
                "tangelo_templates_made",
                "Warm templates made so far",
                templates.made,
            ),
            (
                "tangelo_templates_cpu_microseconds",
                "CPU time that making them took",
                templates.cpu_us,
            ),
            (
                "tangelo_templates_used",
                "Cold starts that came of a warm template",
                templates.used,
            ),
            (
                "tangelo_templates_missed",
                "Cold starts that could have, when none was ready",
                templates.missed,
            ),
        ]
    }

    fn figures_of_the_store(&self) -> [Figure; 3] {
        let store = self.store().stats();
        [
            (
                "tangelo_store_queue",
                "Commands waiting for the store's writer",
                store.queued as u64,
            ),
            (
                "tangelo_store_queue_bytes",
                "Bytes of those commands",
                store.queued_bytes as u64,
            ),
            (
                "tangelo_store_wal_pages",
                "Pages in the write-ahead log",
                store.wal_pages,
            ),
        ]
    }

    fn figures_of_the_bus(&self) -> [Figure; 2] {
        let bus = self.bus().stats();
        [
            (
                "tangelo_bus_backlog",
                "Deliveries not settled",
                bus.iter().map(|s| s.backlog).sum(),
            ),
            (
                "tangelo_bus_dead_letters",
                "Dead letters",
                bus.iter().map(|s| s.dead).sum(),
            ),
        ]
    }

    fn figures_of_outboxes(&self) -> [Figure; 4] {
        let outboxes = self.outboxes();
        let captures = self.captures();
        [
            (
                "tangelo_capture_retained_bytes",
                "Bytes of their logs that Postgres servers keep for slots",
                captures.iter().filter_map(|c| c.retained_bytes).sum(),
            ),
            (
                "tangelo_outbox_waiting",
                "Rows of outboxes that wait",
                outboxes.iter().map(|o| o.waiting).sum(),
            ),
            (
                "tangelo_outbox_refused",
                "Rows of outboxes that were set aside",
                outboxes.iter().map(|o| o.refused).sum(),
            ),
            (
                "tangelo_outbox_lag_milliseconds",
                "How long the first row of an outbox has waited, at most",
                outboxes.iter().map(|o| o.lag_ms).max().unwrap_or_default(),
            ),
        ]
    }
}

/// How far behind each generation of each projection is.
fn register_lags(registry: &mut Registry, projections: &[bus::Projection]) {
    let events = Family::<Vec<(String, String)>, Gauge>::default();
    let seconds = Family::<Vec<(String, String)>, Gauge<f64, AtomicU64>>::default();
    for projection in projections {
        for one in &projection.generations {
            let key = &projection.projection;
            let labels = vec![
                ("app".to_owned(), key.app.to_string()),
                ("workload".to_owned(), key.workload.to_string()),
                ("projection".to_owned(), key.name.to_string()),
                ("generation".to_owned(), one.generation.to_string()),
                (
                    "live".to_owned(),
                    (one.generation == projection.live).to_string(),
                ),
            ];
            let lag = i64::try_from(one.lag_events).unwrap_or(i64::MAX);
            events.get_or_create(&labels).set(lag);
            seconds.get_or_create(&labels).set(one.lag_seconds);
        }
    }
    registry.register(
        "tangelo_projection_lag_events",
        "Events that a generation of a projection has not had",
        events,
    );
    registry.register(
        "tangelo_projection_lag_seconds",
        "How long the first of them has been in the log",
        seconds,
    );
}

/// How each way of each bridge is doing.
fn register_bridges(registry: &mut Registry, ways: &[WayStatus]) {
    let figures: [WayFigure; 5] = [
        (
            "tangelo_bridge_lag",
            "Records that a bridge has not read, or events that it has not written",
            |way| way.lag,
        ),
        (
            "tangelo_bridge_moved",
            "Records and events that it moved since the server started",
            |way| way.moved,
        ),
        (
            "tangelo_bridge_refused",
            "Records that are no events, and were passed over",
            |way| way.refused,
        ),
        (
            "tangelo_bridge_missed",
            "Offsets that were gone before they were read",
            |way| way.missed,
        ),
        (
            "tangelo_bridge_waiting",
            "1 while something is in its way",
            |way| u64::from(way.state == WayState::Waiting),
        ),
    ];
    for (name, help, pick) in figures {
        let family = Family::<[(&str, String); 4], Gauge>::default();
        for way in ways {
            let key = &way.key;
            let gauge = family.get_or_create(&[
                ("app", key.app.to_string()),
                ("bridge", key.bridge.to_string()),
                ("way", key.way.as_str().to_owned()),
                ("topic", key.topic.clone()),
            ]);
            gauge.set(i64::try_from(pick(way)).unwrap_or(i64::MAX));
        }
        registry.register(name, help, family);
    }
    let lags = Family::<[(&str, String); 4], Gauge>::default();
    for way in ways {
        for one in &way.partitions {
            let gauge = lags.get_or_create(&[
                ("app", way.key.app.to_string()),
                ("bridge", way.key.bridge.to_string()),
                ("topic", way.key.topic.clone()),
                ("partition", one.partition.to_string()),
            ]);
            gauge.set(i64::try_from(one.lag).unwrap_or(i64::MAX));
        }
    }
    registry.register(
        "tangelo_bridge_partition_lag",
        "Records of a partition that a bridge has not read",
        lags,
    );
}

/// What there is of each log, and how much of it somebody still needs.
fn register_logs(registry: &mut Registry, logs: &[bus::LogState], now: Time) {
    let figures: [LogFigure; 4] = [
        ("tangelo_log_events", "Events in a log", |log, _| log.events),
        ("tangelo_log_bytes", "Their bytes", |log, _| log.bytes),
        (
            "tangelo_log_oldest_seconds",
            "The age of the oldest of them",
            |log, now| log.oldest.map_or(0, |at| now.since(at).as_secs()),
        ),
        (
            "tangelo_log_held_events",
            "Positions that somebody still needs",
            |log, _| log.held.first().map_or(0, |held| log.head.0 - held.after.0),
        ),
    ];
    for (name, help, pick) in figures {
        let family = Family::<[(&str, String); 1], Gauge>::default();
        for log in logs {
            let gauge = family.get_or_create(&[("namespace", log.namespace.to_string())]);
            gauge.set(i64::try_from(pick(log, now)).unwrap_or(i64::MAX));
        }
        registry.register(name, help, family);
    }
}
