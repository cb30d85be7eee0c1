//! Who is outside of the platform and takes part in its bus: endpoints that events are posted to, those who come for
//! events, and what keys let them do.
//!
//! Who gets events is a workload like any other where work is admitted, limited, traced and billed; the manifest writes
//! it as the target of a subscription.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// An endpoint that gets events by signed POST (Standard Webhooks 1.0.0).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// `http://` or `https://`, with path and query.
    pub url: String,
    /// Names of the secrets that sign: one, or two while they are exchanged.
    pub secrets: Vec<String>,
    /// A file of certificates in PEM, relative to the manifest: who is trusted instead of those whom the system trusts.
    #[serde(default)]
    pub ca: Option<String>,
    /// When its breaker opens.
    #[serde(default)]
    pub breaker: BreakerTerms,
}

/// When nothing is tried for a while, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerTerms {
    /// Failures one after another that open it; 1 or more.
    pub failures: u32,
    /// How long it is open at first; doubled each time that the one probe after it fails.
    pub wait: Duration,
    /// The longest that it is open.
    pub max_wait: Duration,
}

impl Default for BreakerTerms {
    /// Five failures, from ten seconds up to five minutes.
    fn default() -> Self {
        Self {
            failures: 5,
            wait: Duration::from_secs(10),
            max_wait: Duration::from_secs(300),
        }
    }
}

/// Somebody who comes for events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// How long they have to say what became of an event, unless they ask for another time.
    pub lease: Duration,
}

/// What somebody outside may do with the bus of an app, when they present one of the secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// Names of the secrets: one, or two while they are exchanged.
    pub secrets: Vec<String>,
    /// Event types that it may publish; a trailing `*` stands for any rest.
    #[serde(default)]
    pub publishes: Vec<String>,
    /// Subscriptions that it may pull.
    #[serde(default)]
    pub pulls: Vec<Name>,
}
