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

/// A Kafka cluster of somebody else, and what goes to it and comes from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kafka {
    /// Some of its brokers: `host:port`.
    pub brokers: Vec<String>,
    /// Whether it is spoken to with TLS.
    #[serde(default)]
    pub tls: Option<KafkaTls>,
    /// Who Tangelo is there.
    #[serde(default)]
    pub login: Option<KafkaLogin>,
    /// Its topics.
    pub ways: Vec<KafkaWay>,
}

/// TLS to a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaTls {
    /// A file of certificates in PEM, relative to the manifest: who is trusted instead of those whom the system trusts.
    #[serde(default)]
    pub ca: Option<String>,
}

/// Who somebody is at a cluster, by SASL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaLogin {
    /// How it is shown.
    pub mechanism: KafkaMechanism,
    /// The name there.
    pub user: String,
    /// The name of the secret that is the password.
    pub password: String,
}

/// How SASL shows who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaMechanism {
    /// RFC 4616: the password itself.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
}

/// How a record holds its event (Kafka Protocol Binding for CloudEvents 1.0.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaMode {
    /// The data is the value, attributes are headers.
    Binary,
    /// The value is the whole event in JSON.
    Structured,
}

/// A topic, and which way events go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaWay {
    /// Its records are published here.
    In {
        /// The topic.
        topic: String,
        /// The type of records that are no CloudEvents.
        kind: Option<String>,
        /// All types that may come; a trailing `*` stands for any rest.
        types: Vec<String>,
        /// Whether a topic that was never read is read from its beginning.
        all: bool,
    },
    /// What a subscription gets is written there.
    Out {
        /// The topic.
        topic: String,
        /// Which subscription of the bridge.
        subscription: Name,
        /// Where a record's key is in its event, as a path; `None`: the extension `partitionkey`, else the subject.
        key: Option<String>,
        /// How records hold events.
        mode: KafkaMode,
    },
}

impl KafkaWay {
    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        match self {
            Self::In { topic, .. } | Self::Out { topic, .. } => topic,
        }
    }
}
