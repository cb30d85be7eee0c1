//! The one seam upwards: what running code asks of the platform. Implemented in `platform::host`, handed down at start.

use std::{future::Future, pin::Pin, sync::Arc};

use model::{
    AppName, Error, InstanceId, Invocation, InvocationId, Namespace, Time, TraceId, VersionId,
    WorkloadName,
};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::{
    body::Body,
    keyvalue::{Answer, Ask},
};

/// A future that may cross threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What running code asks of the platform.
pub trait Host: Send + Sync + 'static {
    /// A new instance is about to start: it gets an identity, and the returned variables in its environment
    /// (mesh addresses with its token, AWS endpoint and keys, secrets).
    fn enter(&self, presence: &Arc<Presence>) -> Vec<(String, String)>;

    /// The value of a secret now, for what Tangelo itself does for a version that names it (its signature, the password of
    /// its registry); `None`: it does not, or there is none.
    fn secret(&self, version: VersionId, name: &str) -> Option<Zeroizing<String>>;

    /// An instance is gone: its identity ends.
    fn leave(&self, instance: InstanceId);

    /// A request of running code to a name inside (`orders.internal`, `events.internal`): the mesh, in-process.
    /// Always answers; refusals are problem documents.
    fn call(&self, caller: Caller, request: http::Request<Body>)
    -> BoxFuture<http::Response<Body>>;

    /// Deliveries of the workload's subscriptions that wait or are under way.
    fn backlog(&self, app: &AppName, workload: &WorkloadName) -> u64;
    /// What running code asks of the bucket `bucket` of its app. Writes are on disk when it answers.
    fn keyvalue(
        &self,
        presence: &Arc<Presence>,
        bucket: &str,
        ask: Ask,
    ) -> BoxFuture<Result<Answer, Error>>;

    /// A line that running code wrote.
    fn log(&self, line: LogLine);
}

/// Who calls over the mesh.
#[derive(Clone)]
pub struct Caller {
    /// The instance.
    pub presence: Arc<Presence>,
    /// What it works on, where that is known for certain.
    pub working: Option<Working>,
}

/// One running copy of a workload, as the platform knows it.
pub struct Presence {
    /// Its id.
    pub instance: InstanceId,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its app.
    pub app: AppName,
    /// Its workload.
    pub workload: WorkloadName,
    /// Its version.
    pub version: VersionId,
    working: Mutex<Vec<Working>>,
}

/// The invocation that an instance works on: what a call that it makes inherits.
#[derive(Debug, Clone)]
pub struct Working(pub Arc<Invocation>);

impl Presence {
    /// A new, idle instance.
    #[must_use]
    pub fn new(
        instance: InstanceId,
        namespace: Namespace,
        app: AppName,
        workload: WorkloadName,
        version: VersionId,
    ) -> Self {
        Self {
            instance,
            namespace,
            app,
            workload,
            version,
            working: Mutex::new(Vec::new()),
        }
    }

    /// Notes that the instance works on `invocation` until [`Presence::end`].
    pub fn begin(&self, invocation: Arc<Invocation>) {
        self.working.lock().push(Working(invocation));
    }

    /// The instance no longer works on `id`.
    pub fn end(&self, id: InvocationId) {
        self.working.lock().retain(|w| w.0.id != id);
    }

    /// The invocation that the instance works on, when it is exactly one: then a call that it makes belongs to that.
    #[must_use]
    pub fn only(&self) -> Option<Working> {
        match self.working.lock().as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        }
    }

    /// The invocation of trace `trace` that the instance works on, for callers that pass their trace header on.
    #[must_use]
    pub fn of_trace(&self, trace: TraceId) -> Option<Working> {
        self.working
            .lock()
            .iter()
            .find(|w| w.0.trace.trace == trace)
            .cloned()
    }
}

/// One line that a workload wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read.
    pub time: Time,
    /// The app.
    pub app: AppName,
    /// The workload.
    pub workload: WorkloadName,
    /// The instance.
    pub instance: InstanceId,
    /// The invocation, where it is known for certain.
    pub invocation: Option<InvocationId>,
    /// Its trace.
    pub trace: Option<TraceId>,
    /// Where it was written.
    pub stream: LogStream,
    /// The text, without its line end; cut at `Limits::log_line`.
    pub text: String,
}

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The platform, about the instance (started, stopped, crashed).
    Platform,
}
