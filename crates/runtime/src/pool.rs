//! What all pools share: what they are made from, what they need, and what they say about themselves.

use std::{path::PathBuf, sync::Arc};

use model::{AppName, Clock, Ids, InstanceId, Limits, Namespace, Time, VersionId, Workload};
use serde::Serialize;

use crate::{host::Host, launcher::Launcher};

/// One version of a workload, ready to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Where its name lives.
    pub namespace: Namespace,
    /// Its app.
    pub app: AppName,
    /// What the manifest says of it.
    pub workload: Workload,
    /// The hash of artifact and spec: pools, compiled code and instances are keyed by it.
    pub version: VersionId,
    /// The unpacked artifact; the paths in `workload.run` are relative to it. Read-only by convention.
    pub folder: PathBuf,
    /// A folder of the workload's own that outlives instances and versions, when its manifest asks for one.
    pub state_folder: Option<PathBuf>,
}

/// What every pool needs of its surroundings.
pub struct Context {
    /// The platform above.
    pub host: Arc<dyn Host>,
    /// The clock.
    pub clock: Clock,
    /// Where ids come from.
    pub ids: Ids,
    /// The limits.
    pub limits: Limits,
    /// What starts processes.
    pub launcher: Launcher,
    /// A folder for what can be made again: compiled code, bootstraps.
    pub cache: PathBuf,
}

/// What a pool says about itself.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PoolStats {
    /// Its instances.
    pub instances: Vec<InstanceStat>,
    /// Instances started since the pool was made.
    pub starts: u64,
    /// Starts that failed and instances that died.
    pub failures: u64,
}

/// What a pool says about one instance.
#[derive(Debug, Clone, Serialize)]
pub struct InstanceStat {
    /// Its id.
    pub instance: InstanceId,
    /// What it does.
    pub state: InstanceState,
    /// Its process, where it is one.
    pub pid: Option<u32>,
    /// When it was started.
    pub since: Time,
    /// Requests that it works on.
    pub in_flight: u32,
    /// Resident bytes, where known; else 0.
    pub memory: u64,
}

/// What an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Not ready yet.
    Starting,
    /// Ready, with nothing to do.
    Idle,
    /// Working.
    Busy,
    /// Finishing what it has, taking nothing new.
    Draining,
}
