//! Everything that is counted, as Prometheus reads it. Labels are names of deployed workloads and words of closed
//! sets, never paths or ids, so that their number is bounded.

use std::{collections::BTreeMap, fmt, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use crate::{
    histogram::Histogram,
    recorder::Stats,
    refusals::Refusals,
    usage::{INSTANCE, Instances, Sums, UsageKey},
};

/// Upper bounds of the buckets of durations, in milliseconds.
const BOUNDS: [u64; 14] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000,
];

type Labels = Vec<(&'static str, String)>;

/// One metric with its values.
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    values: Vec<(Labels, Value)>,
}

enum Value {
    Count(u64),
    Amount(f64),
    Durations { sum: f64, histogram: Histogram },
}

struct Metrics(Vec<Metric>);

/// The text of one scrape.
pub(crate) fn text(
    totals: Vec<(UsageKey, Sums)>,
    stats: Stats,
    refusals: &Refusals,
    extra: impl FnOnce(&mut Registry),
) -> String {
    let (instances, totals): (Vec<_>, Vec<_>) = totals
        .into_iter()
        .partition(|(key, _)| key.trigger == INSTANCE);
    let mut metrics = of_usage(&totals);
    metrics.extend(of_instances(&instances));
    metrics.extend(of_telemetry(stats));
    metrics.extend(of_refusals(refusals));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(metrics)));
    extra(&mut registry);
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing to a string does not fail");
    out
}

fn of_usage(totals: &[(UsageKey, Sums)]) -> Vec<Metric> {
    let mut all = vec![invocations(totals), durations(totals)];
    all.push(counter(
        "tangelo_cold_starts",
        "Invocations that waited for a cold start",
        totals
            .iter()
            .map(|(key, sums)| (of(key), Value::Count(sums.cold.count))),
    ));
    all.push(counter(
        "tangelo_cold_start_seconds",
        "Time spent in the phases of cold starts",
        totals.iter().flat_map(cold_phases),
    ));
    all.push(counter(
        "tangelo_cpu_seconds",
        "CPU time of invocations, as far as it can be told",
        totals
            .iter()
            .map(|(key, sums)| (of(key), Value::Amount(seconds(sums.cpu_us)))),
    ));
    all.push(counter(
        "tangelo_body_bytes",
        "Bytes of bodies",
        totals.iter().flat_map(body_bytes),
    ));
    all.push(gauge(
        "tangelo_memory_peak_bytes",
        "The highest peak of memory of an instance since the start",
        by_workload(totals)
            .into_iter()
            .map(|(labels, sums)| (labels, Value::Count(sums.memory))),
    ));
    all
}

fn of_instances(totals: &[(UsageKey, Sums)]) -> Vec<Metric> {
    let all = |name, help, value: fn(&Instances) -> Value| {
        let values = totals
            .iter()
            .map(|(key, sums)| (of_workload(key), value(&sums.instances)));
        counter(name, help, values)
    };
    vec![
        all(
            "tangelo_instance_seconds",
            "How long instances were there, added up",
            |used| Value::Amount(seconds(used.lived_us)),
        ),
        all(
            "tangelo_instance_cpu_seconds",
            "CPU time of instances, whatever they used it for",
            |used| Value::Amount(seconds(used.cpu_us)),
        ),
        all(
            "tangelo_instance_memory_byte_seconds",
            "Bytes of memory of instances times the seconds for which they had them",
            |used| Value::Count(used.byte_seconds),
        ),
    ]
}

fn invocations(totals: &[(UsageKey, Sums)]) -> Metric {
    let values = totals.iter().flat_map(|(key, sums)| {
        let of_result = |result: &str, count| {
            let mut labels = of(key);
            labels.push(("result", result.to_owned()));
            (labels, Value::Count(count))
        };
        [
            of_result("ok", sums.invocations - sums.errors),
            of_result("error", sums.errors),
        ]
    });
    counter("tangelo_invocations", "Invocations that ended", values)
}

fn durations(totals: &[(UsageKey, Sums)]) -> Metric {
    let values = by_workload(totals).into_iter().map(|(labels, sums)| {
        let sum = seconds(sums.wall_us);
        let histogram = sums.latency;
        (labels, Value::Durations { sum, histogram })
    });
    Metric {
        name: "tangelo_invocation_seconds",
        help: "Durations of invocations",
        kind: MetricType::Histogram,
        values: values.collect(),
    }
}

fn cold_phases((key, sums): &(UsageKey, Sums)) -> [(Labels, Value); 5] {
    let cold = sums.cold;
    let phases = [
        ("wait", cold.wait_us),
        ("load", cold.load_us),
        ("spawn", cold.spawn_us),
        ("extensions", cold.extensions_us),
        ("init", cold.init_us),
    ];
    phases.map(|(phase, micros)| {
        let mut labels = of(key);
        labels.push(("phase", phase.to_owned()));
        (labels, Value::Amount(seconds(micros)))
    })
}

fn body_bytes((key, sums): &(UsageKey, Sums)) -> [(Labels, Value); 2] {
    [("in", sums.bytes_in), ("out", sums.bytes_out)].map(|(direction, bytes)| {
        let mut labels = of(key);
        labels.push(("direction", direction.to_owned()));
        (labels, Value::Count(bytes))
    })
}

fn of_telemetry(stats: Stats) -> Vec<Metric> {
    let plain = |name, help, value| counter(name, help, [(Labels::new(), Value::Count(value))]);
    let by = |name, help, label: &'static str, values: &[(&str, u64)]| {
        let labelled = values
            .iter()
            .map(|(word, n)| (vec![(label, (*word).to_owned())], Value::Count(*n)));
        counter(name, help, labelled)
    };
    vec![
        by(
            "tangelo_traces",
            "Traces decided about",
            "verdict",
            &[
                ("all", stats.kept_all),
                ("error", stats.kept_error),
                ("slow", stats.kept_slow),
                ("share", stats.kept_share),
                ("dropped", stats.dropped),
            ],
        ),
        by(
            "tangelo_telemetry_recorded",
            "Spans and lines taken in",
            "what",
            &[("spans", stats.spans), ("logs", stats.logs)],
        ),
        by(
            "tangelo_telemetry_lost",
            "What a bound, the disk or a collector cost",
            "what",
            &[
                ("spans", stats.spans_lost),
                ("logs", stats.logs_lost),
                ("blocks", stats.blocks_lost),
                ("exports", stats.export_lost),
            ],
        ),
        plain(
            "tangelo_telemetry_exported_spans",
            "Spans that a collector took",
            stats.exported,
        ),
        gauge(
            "tangelo_telemetry_file_bytes",
            "Bytes of all telemetry files",
            [(Labels::new(), Value::Count(stats.bytes))],
        ),
    ]
}

fn of_refusals(refusals: &Refusals) -> [Metric; 2] {
    let requests = refusals
        .requests()
        .into_iter()
        .map(|((workload, full), n)| {
            let mut labels = Labels::new();
            if let Some((app, workload)) = workload {
                labels.push(("app", app.to_string()));
                labels.push(("workload", workload.to_string()));
            }
            labels.push(("full", full.as_str().to_owned()));
            (labels, Value::Count(n))
        });
    let connections = [(Labels::new(), Value::Count(refusals.connections()))];
    [
        counter(
            "tangelo_refused_requests",
            "Requests and other work refused because something was full, which `full` says",
            requests,
        ),
        counter(
            "tangelo_refused_connections",
            "Connections refused to clients that had as many as they may have",
            connections,
        ),
    ]
}

fn counter(
    name: &'static str,
    help: &'static str,
    values: impl IntoIterator<Item = (Labels, Value)>,
) -> Metric {
    let values = values.into_iter().collect();
    Metric {
        name,
        help,
        kind: MetricType::Counter,
        values,
    }
}

fn gauge(
    name: &'static str,
    help: &'static str,
    values: impl IntoIterator<Item = (Labels, Value)>,
) -> Metric {
    let kind = MetricType::Gauge;
    Metric {
        kind,
        ..counter(name, help, values)
    }
}

fn of(key: &UsageKey) -> Labels {
    let mut labels = of_workload(key);
    labels.push(("trigger", key.trigger.to_owned()));
    labels
}

fn of_workload(key: &UsageKey) -> Labels {
    vec![
        ("app", key.app.to_string()),
        ("workload", key.workload.to_string()),
        ("tier", key.tier.as_str().to_owned()),
    ]
}

fn by_workload(totals: &[(UsageKey, Sums)]) -> BTreeMap<Labels, Sums> {
    let mut all: BTreeMap<Labels, Sums> = BTreeMap::new();
    for (key, sums) in totals {
        all.entry(of_workload(key)).or_default().add(sums);
    }
    all
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|m| m.name))
            .finish()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in &self.0 {
            let Metric {
                name,
                help,
                kind,
                values,
            } = metric;
            let mut out = encoder.encode_descriptor(name, help, None, *kind)?;
            for (labels, value) in values {
                if labels.is_empty() {
                    encode(&mut out, *kind, value)?;
                } else {
                    encode(&mut out.encode_family(labels)?, *kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn encode(out: &mut MetricEncoder<'_>, kind: MetricType, value: &Value) -> fmt::Result {
    match value {
        Value::Count(n) if matches!(kind, MetricType::Gauge) => out.encode_gauge(n),
        Value::Count(n) => out.encode_counter::<NoLabelSet, _, u64>(n, None),
        Value::Amount(x) => out.encode_counter::<NoLabelSet, _, f64>(x, None),
        Value::Durations { sum, histogram } => {
            let buckets = buckets(histogram);
            out.encode_histogram::<NoLabelSet>(*sum, histogram.count(), &buckets, None)
        }
    }
}

/// Upper bounds in seconds, each with what lies between it and the one before.
fn buckets(histogram: &Histogram) -> Vec<(f64, u64)> {
    let mut below = 0;
    let mut buckets = Vec::with_capacity(BOUNDS.len() + 1);
    for millis in BOUNDS {
        let bound = Duration::from_millis(millis);
        let up_to = histogram.at_most(bound);
        buckets.push((bound.as_secs_f64(), up_to - below));
        below = up_to;
    }
    buckets.push((f64::INFINITY, histogram.count() - below));
    buckets
}
