//! The shape of `bridges`.

#![allow(dead_code, reason = "the types are never made, only described")]

use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::Duration;

/// A bridge to somebody else's broker.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Bridge {
    /// A Kafka cluster.
    kafka: Kafka,
    /// The team that answers for it.
    owner: Option<String>,
}

/// A Kafka cluster: topics that are read into the log, and those that events are written to.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Kafka {
    /// Some of its brokers: `host:port`.
    #[schemars(length(min = 1))]
    brokers: Vec<String>,
    /// TLS: `{}` with whom the machine trusts.
    tls: Option<KafkaTls>,
    /// Who Tangelo is there, by SASL.
    login: Option<KafkaLogin>,
    /// Topics that are read.
    r#in: Option<Vec<KafkaIn>>,
    /// Topics that are written.
    out: Option<Vec<KafkaOut>>,
}

/// TLS to a cluster.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct KafkaTls {
    /// A file of certificates in PEM, relative to the manifest: who is trusted instead of those whom the machine trusts.
    ca: Option<String>,
}

/// Who somebody is at a cluster.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct KafkaLogin {
    /// How it is shown.
    mechanism: Mechanism,
    /// The name there.
    user: String,
    /// The name of the secret that is the password.
    password: String,
}

/// How SASL shows who somebody is.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum Mechanism {
    /// The password itself: with TLS.
    Plain,
    /// RFC 7677.
    #[schemars(rename = "scram-sha-256")]
    ScramSha256,
    /// The same with SHA-512.
    #[schemars(rename = "scram-sha-512")]
    ScramSha512,
}

/// A topic that is read.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct KafkaIn {
    /// The topic.
    topic: String,
    /// The event type of records that are no CloudEvents.
    r#type: Option<String>,
    /// The event types that CloudEvents from there may have; a trailing `*` stands for any rest.
    publishes: Option<Vec<String>>,
    /// Where a topic is begun that was never read: `latest` unless given.
    from: Option<From>,
}

/// Where a topic is begun.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum From {
    /// With all that is there.
    Earliest,
    /// With what comes from now on.
    Latest,
}

/// How a record holds its event.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Mode {
    /// The data is the value, the attributes are headers.
    Binary,
    /// The value is the whole event in JSON.
    Structured,
}

/// A topic that is written.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct KafkaOut {
    /// An event pattern in EventBridge's language, over the attributes of a CloudEvent (`type`, `source`, `subject`, …) and its `data`.
    event: Map<String, Value>,
    /// The topic.
    topic: String,
    /// The subscription's name: made from the topic unless given.
    name: Option<String>,
    /// Where the record's key is in the event: the extension `partitionkey`, else the subject, unless given. Events of one key
    /// are in one partition, in order.
    #[schemars(regex(pattern = "^\\$"), length(max = 256))]
    key: Option<String>,
    /// How records hold events: `binary` unless given.
    mode: Option<Mode>,
    /// How long an event may wait for the cluster, until it is a dead letter: for ever unless given.
    max_age: Option<Duration>,
    /// Events per time at most: `10/s`, `600/m`, `5000/h`.
    #[schemars(regex(pattern = "^[0-9]+ */ *[smh]$"))]
    rate: Option<String>,
}
