//! How an instance is asked: whether it has started, whether it is alive, and whether it is ready for requests.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One question that is asked again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The path that answers 2xx; `None`: it is enough that the port accepts.
    #[serde(default)]
    pub path: Option<String>,
    /// Between two questions.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row that have a consequence; 1 or more.
    pub failures: u32,
    /// How long failures have none: from the start of the process, or from the time at which it had started.
    pub grace: Duration,
}

/// The questions that the instances of a workload are asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Probes {
    /// Until it passes once, nothing else is asked; an instance for which it does not in time is ended.
    pub startup: Option<Probe>,
    /// An instance that fails it is replaced.
    pub liveness: Option<Probe>,
    /// An instance that fails it gets no requests until it passes.
    pub readiness: Option<Probe>,
}

impl Probe {
    /// A start-up probe with what is assumed: asked every 100 ms, and given up after 30 s.
    #[must_use]
    pub const fn startup(path: Option<String>) -> Self {
        Self {
            path,
            interval: Duration::from_millis(100),
            timeout: Duration::from_secs(1),
            failures: 300,
            grace: Duration::ZERO,
        }
    }

    /// A liveness probe with what is assumed: asked every second, and given up when it fails twice.
    #[must_use]
    pub const fn liveness(path: Option<String>) -> Self {
        Self {
            path,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            failures: 2,
            grace: Duration::ZERO,
        }
    }

    /// A readiness probe with what is assumed: asked every second, and one failure is enough.
    #[must_use]
    pub const fn readiness(path: Option<String>) -> Self {
        Self {
            path,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            failures: 1,
            grace: Duration::ZERO,
        }
    }

    /// How long it may fail in all before that has a consequence.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.grace
            .saturating_add(self.interval.saturating_mul(self.failures))
    }
}

impl Probes {
    /// What `health: /path` stands for: the same path says that an instance has started, and that it is alive.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        Self {
            startup: Some(Probe::startup(Some(path.to_owned()))),
            liveness: Some(Probe::liveness(Some(path.to_owned()))),
            readiness: None,
        }
    }

    /// Whether nothing is said.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.startup.is_none() && self.liveness.is_none() && self.readiness.is_none()
    }
}
