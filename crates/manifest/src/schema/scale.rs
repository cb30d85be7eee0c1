//! The shape of `scale` and `limits`.

use schemars::JsonSchema;

use super::Duration;

/// How many instances, and how many requests each.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Scale {
    /// Instances kept even when idle. Functions 0, services 1 unless given.
    #[schemars(range(max = 1000))]
    min: Option<u32>,
    /// Instances at most. Functions 100, services 1 (or `min`) unless given.
    #[schemars(range(min = 1, max = 1000))]
    max: Option<u32>,
    /// Requests that one instance takes at the same time. `lambda` 1, `wasm` 64, `process` and `container` 250, `external` 1000 unless given.
    #[schemars(range(min = 1, max = 10_000))]
    concurrency: Option<u32>,
    /// How long nothing may have been to do before the last instance beyond `min` leaves. Functions 5m, services 10m unless given.
    idle: Option<Duration>,
    /// What the number of instances follows: the most that one of these asks for. Requests against all places (`concurrency: 100%`) unless given. Only `process` and `container`.
    on: Option<ScaleOn>,
    /// How long more must have been asked for before instances are added; the first is never waited for. 10s with `on: {cpu: …}`, else 0s unless given. Only `process` and `container`.
    up: Option<Duration>,
    /// How long fewer must have been enough before instances leave. As `idle` unless given. Only `process` and `container`.
    down: Option<Duration>,
}

/// What the number of instances follows.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ScaleOn {
    /// Requests at the same time, in percent of `concurrency`: `80%`.
    concurrency: Option<Percent>,
    /// CPU time, in percent of what one instance may use (`limits.cpu`, or one CPU): `70%`.
    cpu: Option<Percent>,
    /// Deliveries of its subscriptions that wait or are under way, for each instance.
    #[schemars(range(min = 1, max = 1_000_000))]
    backlog: Option<u32>,
}

/// A share: `70%`.
#[derive(JsonSchema)]
struct Percent(#[schemars(regex(pattern = r"^[0-9]+ *%$"))] String);

/// What one instance may take beside its memory.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Limits {
    /// CPUs: `0.5`, `2`. As many as there are unless given.
    #[schemars(range(min = 0.01, max = 1024.0))]
    cpu: Option<f64>,
    /// Processes and threads at the same time. As many as there may be unless given.
    #[schemars(range(min = 1, max = 4_194_304))]
    processes: Option<u32>,
    /// Files that each of its processes may have open. 65536 unless given, or what the server itself may have.
    #[schemars(range(min = 16, max = 1_048_576))]
    files: Option<u32>,
}

/// What is kept for one instance when there is not enough for all.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Reserve {
    /// CPUs: `0.5`, `2`. What it does not use, others may.
    #[schemars(range(min = 0.01, max = 1024.0))]
    cpu: f64,
}
