//! The shape of `subscriptions`.

#![allow(dead_code, reason = "the types are never made, only described")]

use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::{
    Duration, Egress,
    subscription::{Batch, Input, Order, Retry},
};

/// Events for somebody outside.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct OutsideSubscription {
    /// An event pattern in EventBridge's language, over the attributes of a CloudEvent (`type`, `source`, `subject`, …) and its `data`.
    event: Map<String, Value>,
    /// When to try again, and when to stop.
    retry: Option<Retry>,
    /// Deliveries at the same time at most.
    #[schemars(range(min = 1, max = 10_000))]
    concurrency: Option<u32>,
    /// Events per time at most: `10/s`, `600/m`, `5000/h`. As fast as they are taken unless given.
    #[schemars(regex(pattern = "^[0-9]+ */ *[smh]$"))]
    rate: Option<String>,
    /// The events of a key come one after another; those of other keys do not wait for them.
    order: Option<Order>,
    /// Several events come at once, as a list.
    batch: Option<Batch>,
    /// What is sent instead of the event, as EventBridge's `InputPath`, `InputTransformer` and `Input` have it.
    input: Option<Input>,
    /// The team that answers for it.
    owner: Option<String>,
    /// Who gets the events.
    to: To,
}

/// Who gets events outside.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum To {
    /// An endpoint that they are posted to, signed after the Standard Webhooks convention.
    Webhook(Webhook),
    /// Somebody comes for them, over HTTP and with a key.
    Pull(PulledEvents),
}

/// Events that somebody comes for.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct PulledEvents {
    /// How long they have to say what became of an event before it comes again: 1s to 12h. 30s unless given.
    lease: Option<Duration>,
}

/// What somebody outside may do with the bus of the app.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct AccessKey {
    /// The name of the secret that they present, or two of them while they are exchanged.
    secret: OneOrTwo,
    /// Event types that they may publish; a trailing `*` stands for any rest.
    publishes: Option<Vec<String>>,
    /// Subscriptions of this app that they may pull.
    pulls: Option<Vec<String>>,
}

/// An endpoint.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Webhook {
    /// Where events are posted to: `https://partner.example/events`.
    #[schemars(regex(pattern = "^https?://"))]
    url: String,
    /// The name of the secret that signs, or two of them while they are exchanged: `whsec_…`, as `tangelo secret webhook` makes one.
    secret: OneOrTwo,
    /// How long it has to answer. 15s unless given.
    timeout: Option<Duration>,
    /// A file of certificates in PEM, relative to the manifest: only those are trusted, instead of whom the system trusts.
    ca: Option<String>,
    /// Addresses inside that it may lead to: `10.0.0.5:8443`, `localhost:9000`. Only public ones unless given.
    egress: Option<Vec<Egress>>,
    /// When nothing is tried for a while.
    breaker: Option<Breaker>,
}

/// Names of secrets.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum OneOrTwo {
    /// One.
    One(String),
    /// Two, while one is exchanged for the other.
    Two(#[schemars(length(min = 1, max = 2))] Vec<String>),
}

/// When nothing is tried for a while: all that wait cost no attempt.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Breaker {
    /// Failures one after another that open it. 5 unless given.
    #[schemars(range(min = 1, max = 1000))]
    failures: Option<u32>,
    /// How long it is open at first, doubled each time that the probe after it fails. 10s unless given.
    wait: Option<Duration>,
    /// The longest that it is open. 5m unless given.
    max_wait: Option<Duration>,
}
