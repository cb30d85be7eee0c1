//! The nouns that three or more crates name. No I/O, no policy, no SQL, no HTTP handling.
//!
//! A type lives here only when crates on different levels of the house must agree on it
//! (`docs/ARCHITECTURE.md` has the levels); everything else lives where its word lives.

pub mod app;
pub mod clock;
pub mod code;
pub mod database;
pub mod deferred;
pub mod error;
pub mod event;
pub mod ids;
pub mod invocation;
pub mod json;
pub mod keyvalue;
#[doc(hidden)]
pub mod laws;
pub mod limits;
pub mod name;
pub mod outside;
pub mod probes;
pub mod projection;
pub mod reconcile;
pub mod retention;
pub mod scale;
pub mod subscription;
pub mod trace;
pub mod units;
pub mod usage;

pub use app::{App, Build, Egress, InstanceLimits, Reuse, Route, RouteTarget, Run, Tier, Workload};
pub use clock::{Clock, Time};
pub use code::Code;
pub use database::{Capture, Database, Engine, Outbox};
pub use deferred::{Deferred, Destination, Destinations};
pub use error::{Category, Error};
pub use event::Event;
pub use ids::{BlobHash, Ids, InstanceId, InvocationId, Position, RevisionId, VersionId};
pub use invocation::{Cause, Class, Invocation, Outcome, Principal, Select, Target, Trigger};
pub use limits::{Limits, Profile};
pub use name::{AppName, Name, Namespace, WorkloadName};
pub use outside::{
    AccessKey, BreakerTerms, Kafka, KafkaLogin, KafkaMechanism, KafkaMode, KafkaTls, KafkaWay,
    Pulled, Webhook,
};
pub use probes::{Probe, Probes};
pub use retention::Retention;
pub use scale::{Scale, ScaleOn};
pub use subscription::{
    AfterDead, Batch, EventFilter, InputSpec, Order, Rate, RetryPolicy, Subscription,
    SubscriptionKey,
};
pub use trace::{SpanId, TraceContext, TraceId};
pub use units::{ByteSize, parse_duration};
pub use usage::{ColdStart, InstanceUsage, Usage};
