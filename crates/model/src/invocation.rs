//! One call of a workload: who asked for what, why, until when, and what became of it.

use std::{fmt, sync::Arc, time::Instant};

use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    ids::{InvocationId, Position, VersionId},
    name::{AppName, Namespace, WorkloadName},
    subscription::SubscriptionKey,
    trace::TraceContext,
};

/// The most that [`crate::Limits::chain_depth`] may be: what counts has room for one step more.
pub const MAX_CHAIN_DEPTH: u8 = 250;

/// Which version of a workload is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// Whatever the live revision says at the moment of the attempt.
    Live,
    /// This one.
    Version(VersionId),
}

/// A workload that can be invoked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its app.
    pub app: AppName,
    /// Its name.
    pub workload: WorkloadName,
    /// Which version.
    pub select: Select,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.workload)
    }
}

/// How urgent an invocation is: interactive work goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Somebody waits for the answer.
    Interactive,
    /// Accepted work that should happen soon.
    Async,
    /// Work that may wait: replays, sweeps.
    Background,
}

/// What caused an invocation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A request to the gateway, by the path of its route.
    Route(Arc<str>),
    /// A route asked this workload before its target.
    Before(Arc<str>),
    /// Another workload called over the mesh, or a Wasm guest in-process: `app/name`.
    Mesh(Arc<str>),
    /// A delivery of an event.
    Event {
        /// Through which subscription.
        subscription: SubscriptionKey,
        /// The event's place in the log.
        position: Position,
        /// The event's own id.
        event: Arc<str>,
    },
    /// The CLI, the control API or the AWS door.
    Direct,
    /// Asynchronous work committed earlier, by what committed it.
    Accepted(Box<Trigger>),
}

impl Trigger {
    /// The words for all kinds.
    pub const KINDS: [&str; 6] = ["route", "before", "mesh", "event", "direct", "async"];

    /// One word for tables and metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        Self::KINDS[self.number()]
    }

    /// The place of its kind among [`Trigger::KINDS`].
    #[must_use]
    pub const fn number(&self) -> usize {
        match self {
            Self::Route(_) => 0,
            Self::Before(_) => 1,
            Self::Mesh(_) => 2,
            Self::Event { .. } => 3,
            Self::Direct => 4,
            Self::Accepted(_) => 5,
        }
    }
}

/// Who acts, outermost first in a chain: the user, then each workload that acted for them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Principal {
    /// A person or client that a `before:` workload or a token named.
    User(Arc<str>),
    /// A workload: `app/name`.
    Workload(Arc<str>),
    /// Whoever holds the operator's token or the control socket.
    Operator,
}

/// The part of an invocation that is stored beside every event, task and timer it causes. Version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The invocation that caused it; `None` when it came from outside.
    #[serde(default)]
    pub invocation: Option<InvocationId>,
    /// How urgent.
    pub class: Class,
    /// On whose behalf.
    #[serde(default)]
    pub principals: Vec<Principal>,
    /// The trace to continue.
    pub trace: TraceContext,
    /// Hops from the outside so far.
    #[serde(default)]
    pub depth: u8,
    /// The key under which repeated work is recognised.
    #[serde(default)]
    pub idempotency_key: Option<Arc<str>>,
}

impl Cause {
    /// Of work that no invocation caused: it begins a chain, on behalf of `principals`.
    #[must_use]
    pub const fn first(principals: Vec<Principal>, trace: TraceContext) -> Self {
        Self {
            invocation: None,
            class: Class::Async,
            principals,
            trace,
            depth: 1,
            idempotency_key: None,
        }
    }
}

/// One call of a workload.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Its id; users see it as the request id.
    pub id: InvocationId,
    /// Whom to call.
    pub target: Arc<Target>,
    /// Why.
    pub trigger: Trigger,
    /// How urgent.
    pub class: Class,
    /// On whose behalf.
    pub principals: Vec<Principal>,
    /// Where it stands in its trace. After dispatch made the invocation's span, its parent is that span.
    pub trace: TraceContext,
    /// When to give up, on the monotonic clock. A hop may shorten it, never lengthen it.
    pub deadline: Instant,
    /// Hops from the outside.
    pub depth: u8,
    /// Stable over all attempts of the same work.
    pub idempotency_key: Option<Arc<str>>,
    /// 1 for the first try.
    pub attempt: u32,
}

impl Invocation {
    /// What is stored beside the events and tasks that this invocation causes.
    #[must_use]
    pub fn cause(&self, class: Class) -> Cause {
        Cause {
            invocation: Some(self.id),
            class,
            principals: self.principals.clone(),
            trace: self.trace,
            depth: self.depth + 1,
            idempotency_key: self.idempotency_key.clone(),
        }
    }
}

/// What became of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It answered to the end. For HTTP that includes 4xx and 5xx answers: `status` tells.
    Done {
        /// HTTP status, 200 where there is none.
        status: u16,
    },
    /// It did not: error, crash, trap or timeout.
    Failed(Error),
    /// The caller went away before the end.
    CutOff,
    /// One result per item of a batch, in its order.
    Batch(Vec<Result<(), Error>>),
}

impl Outcome {
    /// Whether a delivery that ended like this is settled: 2xx, or every item of the batch.
    #[must_use]
    pub fn is_success(&self) -> bool {
        match self {
            Self::Done { status } => (200..300).contains(status),
            Self::Batch(items) => items.iter().all(Result::is_ok),
            Self::Failed(_) | Self::CutOff => false,
        }
    }
}
