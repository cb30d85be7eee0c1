//! What runs: every workload of the live revisions with its instances, and whether an app is well.

use model::{AppName, RevisionId, Tier, WorkloadName};
use runtime::{InstanceState, PoolStats, launcher::Enforced};
use serde::Serialize;

use crate::{Platform, apps::LiveApp, dispatch::Callee};

/// One workload and what runs of it.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its app.
    pub app: AppName,
    /// The live revision.
    pub revision: RevisionId,
    /// Its name.
    pub workload: WorkloadName,
    /// Function, service or job.
    pub tier: Tier,
    /// `wasm`, `lambda`, `process`, `container`, `external`, `webhook`, `pull` or `kafka`.
    pub runtime: &'static str,
    /// The first digits of its version.
    pub version: String,
    /// Invocations under way.
    pub in_flight: u32,
    /// Its instances, and how often they were started and failed.
    #[serde(flatten)]
    pub pool: PoolStats,
    /// The limits of each of its instances, and how they are enforced.
    pub limits: Vec<Enforced>,
    /// Who answers for it.
    pub owner: Option<String>,
}

/// Whether an app is well: all of its services have an instance that takes requests.
#[derive(Debug, Serialize)]
pub struct Health {
    /// The app.
    pub app: AppName,
    /// Whether every workload is.
    pub healthy: bool,
    /// Each workload.
    pub workloads: Vec<WorkloadHealth>,
}

/// Whether a workload is well.
#[derive(Debug, Serialize)]
pub struct WorkloadHealth {
    /// The workload.
    pub workload: WorkloadName,
    /// Function, service or job.
    pub tier: Tier,
    /// Whether it can take a request now, or could start to.
    pub healthy: bool,
    /// Instances that can take a request now.
    pub ready: usize,
    /// Why, in words.
    pub reason: String,
}

impl Platform {
    /// What the pool of all Wasm guests holds, and how much of it is in use.
    #[must_use]
    pub fn wasm_totals(&self) -> runtime::wasm::Totals {
        self.deployer().runtime.wasm_totals()
    }

    /// Every workload of the live revisions.
    #[must_use]
    pub fn ps(&self) -> Vec<Row> {
        let live = self.apps().live();
        live.apps
            .iter()
            .flat_map(|app| app.callees.values().map(|callee| row(app, callee)))
            .collect()
    }
}

fn row(app: &LiveApp, callee: &Callee) -> Row {
    Row {
        app: app.name.clone(),
        revision: app.revision,
        workload: callee.workload.name.clone(),
        tier: callee.tier(),
        runtime: callee.workload.run.kind(),
        version: callee.version.short(),
        in_flight: callee.in_flight(),
        pool: callee.pool().stats(),
        limits: callee.pool().limits(),
        owner: callee.workload.owner.clone(),
    }
}

/// Whether `app` is well.
#[must_use]
pub fn health(app: &LiveApp) -> Health {
    let workloads: Vec<_> = app
        .callees
        .values()
        .map(|callee| workload_health(callee))
        .collect();
    Health {
        app: app.name.clone(),
        healthy: workloads.iter().all(|w| w.healthy),
        workloads,
    }
}

fn workload_health(callee: &Callee) -> WorkloadHealth {
    let stats = callee.pool().stats();
    let ready = stats
        .instances
        .iter()
        .filter(|i| matches!(i.state, InstanceState::Idle | InstanceState::Busy))
        .count();
    let needed = callee.tier() == Tier::Service
        && callee.workload.scale.min > 0
        && matches!(callee.workload.run.kind(), "process" | "container");
    let (healthy, reason) = match (ready, callee.workload.run.kind()) {
        (0, "external" | "webhook" | "pull" | "kafka") => {
            (true, "someone else's: not watched".to_owned())
        }
        (0, _) if needed => (false, "no instance takes requests".to_owned()),
        (0, _) => (true, "starts on the first request".to_owned()),
        (n, _) => (true, format!("{n} ready")),
    };
    WorkloadHealth {
        workload: callee.workload.name.clone(),
        tier: callee.tier(),
        healthy,
        ready,
        reason,
    }
}
