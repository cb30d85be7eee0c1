//! What an invocation consumed: what the bill, the spans and the placement advice are made from.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one invocation consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// From the permit to the end of the body.
    pub wall: Duration,
    /// User and system time that can be told apart for this invocation; zero where it cannot.
    pub cpu: Duration,
    /// Peak bytes of memory of the instance, where known.
    pub memory: u64,
    /// Body bytes in.
    pub bytes_in: u64,
    /// Body bytes out.
    pub bytes_out: u64,
    /// Set when this invocation had to wait for an instance to be made.
    pub cold_start: Option<ColdStart>,
}

/// The phases of a cold start, in the order in which they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ColdStart {
    /// Waiting for a place or for another instance's start.
    pub wait: Duration,
    /// Reading, compiling or mapping code.
    pub load: Duration,
    /// Making the process or the Wasm store.
    pub spawn: Duration,
    /// A handler's extensions: from the process to the last of them having registered, and what they keep its first invocation
    /// waiting when the runtime is ready. Zero without any.
    #[serde(default)]
    pub extensions: Duration,
    /// The workload's own start: until it asks for work or passes its start-up probe.
    pub init: Duration,
    /// Whether the process was made of a warm template and not booted.
    #[serde(default)]
    pub template: bool,
}

impl ColdStart {
    /// All phases together.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.wait + self.load + self.spawn + self.extensions + self.init
    }
}

/// What the instances of a workload used over some time, whether or not they had something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceUsage {
    /// How long they were there, added up: the instance time of a bill.
    pub lived: Duration,
    /// Their user and system time.
    pub cpu: Duration,
    /// Their resident bytes times the seconds for which they had them.
    pub byte_seconds: u64,
}
