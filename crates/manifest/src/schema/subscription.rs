//! A workload's `on`, for editors.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::Duration;

/// A subscription: which events, and what to do when a delivery fails.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Subscription {
    /// An event pattern in EventBridge's language, over the attributes of a CloudEvent (`type`, `source`, `subject`, …) and its `data`.
    event: Map<String, Value>,
    /// The major version of their contract that events must have been checked by: `1`, or several: `[1, 2]`. Events of other versions, and those without
    /// a contract, are not for it.
    contract: Option<Majors>,
    /// Its name among the workload's subscriptions; made from the event types unless given. It keeps its place in the log over deploys.
    name: Option<String>,
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
    /// What the workload gets instead of the event, as EventBridge's `InputPath`, `InputTransformer` and `Input` have it.
    input: Option<Input>,
    /// It feeds a read model: from the beginning of the log, in its order, and a second time beside when that is rebuilt.
    projection: Option<Projection>,
}

/// A read model that is fed from the log.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Projection {
    /// Who makes a new generation the one that readers use. `auto` (unless given): Tangelo, as soon as it has had all that the live one has
    /// had. `manual`: an operator, by `tangelo projections switch`.
    switch: Option<Switching>,
}

/// Who makes a new generation live.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Switching {
    /// Tangelo.
    Auto,
    /// An operator.
    Manual,
}

/// Major versions of a contract.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Majors {
    /// Only this one.
    One(#[schemars(range(min = 1))] u32),
    /// Any of these.
    Several(#[schemars(length(min = 1), inner(range(min = 1)))] Vec<u32>),
}

/// What a workload gets instead of the event: one of `path`, `template` and `constant`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Input {
    /// A part of the event: `$.data`.
    #[schemars(regex(pattern = "^\\$"), length(max = 256))]
    path: Option<String>,
    /// A text with `<variables>`; one that begins with `{` or `[` is JSON.
    #[schemars(length(min = 1, max = 8192))]
    template: Option<String>,
    /// Where the variables of the template are in the event: `{id: $.data.id}`.
    paths: Option<BTreeMap<String, String>>,
    /// Always the same JSON.
    constant: Option<Value>,
}

/// Order by key.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Order {
    /// Where the key is in the event: `$.subject`, `$.data.order.id`. An event without one waits for no other.
    #[schemars(regex(pattern = "^\\$"), length(max = 256))]
    key: String,
    /// What a dead letter does to its key. `hold` (unless given): the later events of the key become dead letters too, untried, until it is redriven or
    /// discarded. `skip`: they go on without it.
    dead: Option<AfterDead>,
}

/// What a dead letter does to its key.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum AfterDead {
    /// The later events of the key become dead letters too.
    Hold,
    /// They go on without it.
    Skip,
}

/// Several events at once.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Batch {
    /// At most so many.
    #[schemars(range(min = 2, max = 1000))]
    size: u32,
    /// How long the first waits for more, up to 5m. Not at all unless given.
    window: Option<Duration>,
}

/// When to try again, and when to stop.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Retry {
    /// Attempts in all, the first included. 8 unless given.
    #[schemars(range(min = 1, max = 1000))]
    attempts: Option<u32>,
    /// The oldest an event may get before it is given up. 24h unless given.
    max_age: Option<Duration>,
    /// The wait after the first failure, doubled after each further one. 1s unless given.
    backoff: Option<Duration>,
    /// The longest wait. 5m unless given.
    max_backoff: Option<Duration>,
}
