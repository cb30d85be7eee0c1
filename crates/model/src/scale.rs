//! How many instances there are: between which bounds, what is counted for it, and how long that must hold.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many instances, and how many requests each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// Instances kept even when idle.
    pub min: u32,
    /// Instances at most.
    pub max: u32,
    /// Requests that one instance takes at the same time.
    pub concurrency: u32,
    /// How long nothing may have been to do before the last instance beyond `min` leaves.
    pub idle: Duration,
    /// What is counted; nothing: requests, against all places.
    #[serde(default, skip_serializing_if = "ScaleOn::is_empty")]
    pub on: ScaleOn,
    /// How long more must have been asked for before instances are added; the first one is never waited for.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub up: Duration,
    /// How long fewer must have been enough before instances leave; `None`: as long as `idle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<Duration>,
}

/// What the number of instances follows: the most that one of these asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ScaleOn {
    /// Requests at the same time, in percent of the places of an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// CPU time, in percent of what one instance may use: its limit, or one CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Deliveries of its subscriptions that wait or are under way, for each instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<u32>,
}

impl Scale {
    /// Within these bounds, by requests alone, without windows.
    #[must_use]
    pub fn by_requests(min: u32, max: u32, concurrency: u32, idle: Duration) -> Self {
        Self {
            min,
            max,
            concurrency,
            idle,
            on: ScaleOn::default(),
            up: Duration::ZERO,
            down: None,
        }
    }
}

impl ScaleOn {
    /// Whether nothing is said.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.concurrency.is_none() && self.cpu.is_none() && self.backlog.is_none()
    }
}
