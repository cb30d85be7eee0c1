//! The table of error codes. A code never changes its meaning; each has a page `docs/errors/<code>.md`
//! (`cargo xtask house` checks that both sides of that are true).
//!
//! Ranges: 00 platform, 01 manifest and build, 02 gateway and mesh, 03 admission, 04 running workloads,
//! 05 events, 06 deploys and revisions, 07 store, 08 AWS door, 09 command line and configuration,
//! 10 databases and brokers of the apps themselves.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Category;

/// A stable error code, `TG0001` to `TG9999`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(u16);

macro_rules! codes {
    ($($(#[$doc:meta])+ $name:ident = $number:literal, $category:ident;)*) => {
        $($(#[$doc])+ pub const $name: Code = Code($number);)*

        /// Every code with its name in this table, in order of number.
        pub const ALL: &[(Code, &str)] = &[$(($name, stringify!($name)),)*];

        impl Code {
            /// The category that errors of this code have.
            #[must_use]
            pub const fn category(self) -> Category {
                match self.0 {
                    $($number => Category::$category,)*
                    _ => Category::Internal,
                }
            }
        }
    };
}

codes! {
    /// A fault of Tangelo itself.
    INTERNAL = 1, Internal;
    /// The server is shutting down.
    SHUTTING_DOWN = 2, Unavailable;
    /// No such trace is kept.
    NO_SUCH_TRACE = 3, NotFound;

    /// `tangelo.yaml` has mistakes.
    MANIFEST_INVALID = 101, Invalid;
    /// A builder or a build command failed.
    BUILD_FAILED = 102, Invalid;
    /// A file that the manifest names is not there.
    ARTIFACT_MISSING = 103, NotFound;
    /// `tangelo.yaml` can be used, but is likely not what was meant.
    MANIFEST_SUSPICIOUS = 104, Invalid;
    /// A tool that a builder needs is not there and could not be installed.
    BUILD_TOOL_MISSING = 105, Unavailable;
    /// A subscription asks for a type that nobody in its app publishes.
    TYPE_NOT_PUBLISHED = 106, Invalid;

    /// No route matches host and path.
    NO_ROUTE = 201, NotFound;
    /// A route matches the path, but not the method.
    METHOD_NOT_ALLOWED = 202, MethodNotAllowed;
    /// The request body is larger than the route or the workload allows.
    BODY_TOO_LARGE = 203, TooLarge;
    /// The client did not send the request in time.
    REQUEST_TIMEOUT = 204, Timeout;
    /// The mesh token is unknown or its instance is gone.
    BAD_MESH_TOKEN = 205, Unauthenticated;
    /// A workload called what its manifest does not declare.
    CALL_NOT_DECLARED = 206, Forbidden;
    /// A workload published what its manifest does not declare.
    PUBLISH_NOT_DECLARED = 207, Forbidden;
    /// A workload opened a connection to a host that its manifest does not declare.
    EGRESS_NOT_DECLARED = 208, Forbidden;
    /// Nothing serves this name on the mesh.
    NO_SUCH_WORKLOAD = 209, NotFound;
    /// No app of this name.
    NO_SUCH_APP = 210, NotFound;
    /// The request is not well formed.
    BAD_REQUEST = 211, Invalid;
    /// The client has as many connections as it may have.
    TOO_MANY_CONNECTIONS = 212, Throttled;
    /// A workload used a bucket that its manifest does not declare, or wrote one that it may only read.
    KV_NOT_DECLARED = 213, Forbidden;
    /// A client of the bus has no key, or one that no app has.
    BAD_KEY = 220, Unauthenticated;
    /// A key does not open this.
    KEY_FORBIDS = 221, Forbidden;

    /// All permits of the workload are taken.
    CONCURRENCY_LIMIT = 301, Unavailable;
    /// The chain of calls is deeper than 16.
    TOO_DEEP = 302, Invalid;
    /// The deadline had passed before the work began.
    DEADLINE_PASSED = 303, Timeout;
    /// The workload or its app is being removed.
    WORKLOAD_GONE = 304, Unavailable;
    /// The breaker of the workload is open.
    BREAKER_OPEN = 305, Unavailable;
    /// Request bodies take all the memory that there is for them.
    BUFFERS_FULL = 306, Unavailable;
    /// The server holds as many invocations, or as much memory of Wasm guests, as it may.
    SERVER_FULL = 307, Unavailable;

    /// The workload did not answer within its timeout.
    WORKLOAD_TIMEOUT = 401, Timeout;
    /// A Wasm guest trapped.
    GUEST_TRAPPED = 402, WorkloadFailed;
    /// A Wasm guest needed more memory than its limit.
    GUEST_MEMORY = 403, WorkloadFailed;
    /// A component is malformed, too large, or exports the wrong world.
    BAD_COMPONENT = 404, Invalid;
    /// A guest ended without setting a response.
    NO_RESPONSE = 405, WorkloadFailed;
    /// An instance could not be started.
    START_FAILED = 406, Unavailable;
    /// An instance ended while it worked.
    INSTANCE_DIED = 407, WorkloadFailed;
    /// The connection to the workload failed.
    UPSTREAM_UNREACHABLE = 408, Unavailable;
    /// A Lambda handler raised an error.
    FUNCTION_ERROR = 409, WorkloadFailed;
    /// A Lambda handler's reply is not a reply of its payload format.
    BAD_REPLY = 410, WorkloadFailed;
    /// A payload is larger than the limit of its target.
    PAYLOAD_TOO_LARGE = 411, TooLarge;
    /// The workload does not take this kind of input.
    INPUT_NOT_SUPPORTED = 412, Invalid;
    /// The runtime a workload asks for is not on this machine.
    RUNTIME_MISSING = 413, Unavailable;
    /// An instance needed more memory than its limit, and was ended.
    INSTANCE_MEMORY = 414, WorkloadFailed;
    /// A Lambda extension asked to be sent logs or telemetry.
    NO_TELEMETRY_API = 415, Invalid;
    /// A component is of WASI 0.3, which this server does not run.
    PREVIEW_OFF = 416, Invalid;
    /// A component of WASI 0.2 is to serve several requests at the same time in one instance.
    NOT_CONCURRENT = 417, Invalid;
    /// An instance ran, and its start-up probe did not pass in time.
    NEVER_STARTED = 420, Unavailable;
    /// An instance failed its liveness probe, and was replaced.
    NOT_ALIVE = 421, Unavailable;
    /// An endpoint outside answered a webhook with something else than 2xx.
    ENDPOINT_FAILED = 430, WorkloadFailed;
    /// An endpoint outside is gone: it answered a webhook with 410.
    ENDPOINT_GONE = 431, WorkloadFailed;
    /// An endpoint outside asked for its webhooks later.
    ENDPOINT_BUSY = 432, Unavailable;
    /// A secret that signs webhooks is not there, or is none.
    SIGNING_SECRET = 433, Unavailable;

    /// An event is not a CloudEvent 1.0.
    BAD_EVENT = 501, Invalid;
    /// No such dead letter.
    NO_SUCH_DEAD_LETTER = 502, NotFound;
    /// The log takes no more for now.
    LOG_FULL = 503, Unavailable;
    /// No such subscription.
    NO_SUCH_SUBSCRIPTION = 504, NotFound;
    /// No such asynchronous invocation.
    NO_SUCH_INVOCATION = 505, NotFound;
    /// An event filter is not one.
    BAD_FILTER = 506, Invalid;
    /// The log has no such event.
    NO_SUCH_EVENT = 507, NotFound;
    /// An event breaks the contract of its type.
    CONTRACT_BROKEN = 508, Invalid;
    /// A file of the folder of contracts is none.
    BAD_CONTRACT = 509, Invalid;
    /// A version of a contract refuses events of another one.
    CONTRACT_INCOMPATIBLE = 510, Conflict;
    /// A subscription expects what no version of a contract that is shipped has.
    CONTRACT_NOT_SHIPPED = 511, Conflict;
    /// The body of a request is packed in a way that is not unpacked here.
    CODING_NOT_SPOKEN = 512, MediaType;
    /// What a deploy takes out of a contract is what a live subscription of another app asks for.
    CONTRACT_PINNED = 515, Conflict;
    /// An earlier event of the same key is a dead letter.
    EARLIER_IS_DEAD = 520, Conflict;
    /// No such redrive or replay.
    NO_SUCH_JOB = 521, NotFound;
    /// An earlier dead letter of the same key comes first.
    EARLIER_LETTER_FIRST = 522, Conflict;
    /// No such projection, or no such generation of it.
    NO_SUCH_PROJECTION = 540, NotFound;
    /// A projection is not where it would have to be for that.
    PROJECTION_CONFLICT = 541, Conflict;
    /// The log does not have all of that any more.
    EVENTS_GONE = 542, Conflict;
    /// A stream of events is not at the version that is expected.
    STREAM_CONFLICT = 550, Conflict;
    /// The app has no stream of this subject, or the stream no snapshot.
    NO_SUCH_STREAM = 551, NotFound;
    /// A workload used streams, and its manifest does not declare that it does.
    STREAMS_NOT_DECLARED = 552, Forbidden;
    /// A subscription is delivered, and not pulled.
    NOT_PULLED = 560, Conflict;
    /// Whoever pulled an event did not say in time what became of it.
    LEASE_EXPIRED = 561, WorkloadFailed;
    /// Whoever pulled an event said that it failed.
    NOT_TAKEN = 562, WorkloadFailed;

    /// No such revision of the app.
    NO_SUCH_REVISION = 601, NotFound;
    /// A deploy names a file that was not uploaded.
    UPLOAD_MISSING = 602, Invalid;
    /// Another deploy of the app switched first.
    DEPLOY_CONFLICT = 603, Conflict;
    /// An instance of the new revision does not start.
    DEPLOY_UNHEALTHY = 604, Unavailable;

    /// The data folder belongs to a newer Tangelo.
    STORE_TOO_NEW = 701, Conflict;
    /// Another server holds the data folder.
    STORE_LOCKED = 702, Conflict;
    /// The store takes no more work for now.
    STORE_BUSY = 703, Unavailable;
    /// The disk refused a write.
    STORE_FAILED = 704, Unavailable;
    /// Another node owns this shard of the work now.
    STORE_NOT_OWNER = 705, Unavailable;
    /// The store has no such row.
    STORE_NOT_FOUND = 706, NotFound;
    /// A write contradicts what is stored.
    STORE_CONFLICT = 707, Conflict;
    /// A payload is larger than the store takes.
    STORE_TOO_LARGE = 708, TooLarge;
    /// A stored payload cannot be read back.
    STORE_CORRUPT = 709, Internal;
    /// Under a key is not what the condition of a write says.
    KV_CONDITION = 710, Precondition;
    /// What is under a key is no whole number, or would leave its range.
    KV_NOT_A_NUMBER = 711, Conflict;
    /// The app keeps as much under keys as it may.
    KV_FULL = 712, TooLarge;
    /// A key is empty, too long or not text.
    KV_BAD_KEY = 713, Invalid;
    /// Nothing is under this key.
    KV_NOT_FOUND = 714, NotFound;

    /// An AWS operation that Tangelo does not have.
    AWS_UNSUPPORTED = 801, Unsupported;
    /// An AWS request's signature does not verify.
    AWS_SIGNATURE = 802, Forbidden;

    /// No server answers at the control socket.
    NO_SERVER = 901, Unavailable;
    /// An option or a configuration file is wrong.
    BAD_CONFIG = 902, Invalid;
    /// A TLS certificate cannot be used: it is none, or its key does not fit.
    BAD_CERTIFICATE = 903, Invalid;
    /// A command was given what it cannot use.
    BAD_ARGUMENT = 904, Invalid;
    /// A file or folder cannot be read or written.
    FILE_FAILED = 905, Unavailable;
    /// A server answered what this version of the command line does not understand.
    ANOTHER_SERVER = 906, Unavailable;

    /// A database of an app cannot be reached.
    DATABASE_UNREACHABLE = 1001, Unavailable;
    /// A database has no outbox table, or another than this version relays.
    OUTBOX_MISSING = 1002, Conflict;
    /// A database does not let Tangelo in, or not do what it must.
    DATABASE_FORBIDDEN = 1003, Forbidden;
    /// A database failed at what it was asked.
    DATABASE_FAILED = 1004, Unavailable;
    /// No such database or outbox.
    NO_SUCH_DATABASE = 1005, NotFound;
    /// Another server relays this already.
    RELAY_HELD = 1006, Conflict;
    /// A row of an outbox is no event that may be published.
    ROW_REFUSED = 1007, Invalid;
    /// What captures the changes of a database is not there.
    CAPTURE_MISSING = 1008, Conflict;
    /// No such reconciliation.
    NO_SUCH_RECONCILIATION = 1009, NotFound;
    /// Two places could not be compared.
    RECONCILIATION_FAILED = 1010, Unavailable;
    /// A Kafka cluster does not answer.
    BROKER_UNREACHABLE = 1020, Unavailable;
    /// A Kafka cluster has no such topic.
    NO_SUCH_TOPIC = 1021, NotFound;
    /// A record of Kafka is no event, or an event makes a record that is too large.
    RECORD_REFUSED = 1022, Invalid;
    /// A Kafka cluster does not let Tangelo in, or not do what it must.
    BROKER_FORBIDS = 1023, Forbidden;
    /// No such bridge or topic of one.
    NO_SUCH_BRIDGE = 1024, NotFound;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TG{:04}", self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.strip_prefix("TG")
            .and_then(|number| number.parse().ok())
            .map(Code)
            .ok_or_else(|| serde::de::Error::custom("expected a code such as TG0201"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_print_as_documented() {
        assert!(ALL.windows(2).all(|pair| pair[0].0.0 < pair[1].0.0));
        assert_eq!(NO_ROUTE.to_string(), "TG0201");
        assert_eq!(
            serde_json::from_str::<Code>("\"TG0201\"").ok(),
            Some(NO_ROUTE)
        );
    }
}
