//! The shape of `health`.

use schemars::JsonSchema;

use super::Duration;

/// How instances are asked.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(
    clippy::large_enum_variant,
    reason = "the types are never made, only described"
)]
pub(super) enum Health {
    /// A path that answers 2xx when an instance has started and is alive.
    Path(String),
    /// The probes apart.
    Probes(Probes),
}

/// The probes apart, each with its own path and times.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Probes {
    /// Until it passes once nothing else is asked; an instance for which it does not in time is ended. Asked every 100ms, and given up after 30s (300 failures) unless said.
    startup: Option<Probe>,
    /// An instance that fails it is replaced, and finishes what it has. Asked every second, and given up when it fails twice in a row unless said.
    liveness: Option<Probe>,
    /// An instance that fails it gets no requests until it passes. Asked every second; one failure is enough unless said.
    readiness: Option<Probe>,
}

/// One probe.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(
    clippy::large_enum_variant,
    reason = "the types are never made, only described"
)]
enum Probe {
    /// Its path.
    Path(String),
    /// Its path and its times.
    Settings(ProbeSettings),
}

/// A probe with its times.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ProbeSettings {
    /// The path that answers 2xx. Without it: it is enough that the port accepts.
    path: Option<String>,
    /// Between two questions, 10ms to 1h.
    interval: Option<Duration>,
    /// How long an answer may take, 10ms to 1h. 1s unless given.
    timeout: Option<Duration>,
    /// Failures in a row that have a consequence.
    #[schemars(range(min = 1, max = 10_000))]
    failures: Option<u32>,
    /// How long failures have no consequence: from the start of the process (`startup`), or from when it had started. 0s unless given.
    grace: Option<Duration>,
}
