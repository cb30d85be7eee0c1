//! The laws, as the targets call them. They live beside what they are about; those of crates that contain wasmtime are
//! compiled here from their files, so that a target builds in seconds.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "only the laws are used of what is compiled here"
)]

#[path = "../../crates/gateway/src/server"]
mod server {
    pub mod framing;
    pub mod framing_law;
}

#[path = "../../crates/runtime/src/lambda"]
mod lambda {
    /// What `wire` keeps of what extensions say: the rest of that module needs more of the runtime.
    mod extension_api {
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub(crate) struct Headers {
            pub(crate) name: Option<String>,
            pub(crate) identifier: Option<String>,
            pub(crate) error_type: Option<String>,
        }
    }
    pub mod wire;
    pub mod wire_law;
    pub mod payload {
        pub(crate) const ACCOUNT: &str = "000000000000";
        pub(crate) const REGION: &str = "us-east-1";
        pub mod alb_event;
        pub mod http_event;
        pub mod http_reply;
        pub mod law;
        pub mod law_lists;
        pub mod request;
        pub mod rest_event;
    }
}

#[path = "../../crates/runtime/src/webhook"]
mod webhook {
    pub mod verdict;
}

#[path = "../../crates/runtime/src/wasm"]
mod wasm {
    pub mod exports;
    pub mod exports_law;
}

#[path = "../../crates/platform/src/keyvalue"]
mod keyvalue {
    pub mod wire;
    pub mod wire_law;
}

#[path = "../../crates/platform/src/streams"]
mod streams_of_events {
    pub mod wire;
    pub mod wire_law;
}

/// What both read their queries with.
#[path = "../../crates/platform/src/query.rs"]
mod query;

#[path = "../../crates/connect/src/capture"]
mod capture {
    pub mod law;
    pub mod pgoutput;
}

#[path = "../../crates/connect/src/kafka"]
mod kafka_records {
    pub mod binding;
    pub mod law;
}

/// What `http_reply` needs of the runtime.
#[path = "../../crates/runtime/src/body.rs"]
mod body;
mod call {
    #[derive(Clone, Copy)]
    pub struct Inferred;
}

pub use contract::law::contracts;
pub use manifest::law::law as manifest;
pub use model::laws::{cloudevents, traces};
pub use pattern::law::{event_paths, inputs, patterns};

/// HTTP/1.1 framing at the edge.
pub fn framing(bytes: &[u8]) {
    server::framing_law::law(bytes);
}

/// Lambda's payloads: requests as events, replies as responses.
pub fn payloads(bytes: &[u8]) {
    lambda::payload::law::law(bytes);
}

/// The server of the Runtime API.
pub fn runtime_api(bytes: &[u8]) {
    lambda::wire_law::law(bytes);
}

/// Records of Kafka.
pub fn kafka(bytes: &[u8]) {
    kafka_records::law::law(bytes);
}

/// What an endpoint asks for with `Retry-After`.
pub fn webhooks(bytes: &[u8]) {
    webhook::verdict::law(bytes);
}

/// What components export.
pub fn components(bytes: &[u8]) {
    wasm::exports_law::law(bytes);
}

/// What a request asks of buckets.
pub fn buckets(bytes: &[u8]) {
    keyvalue::wire_law::law(bytes);
}

/// What a request asks of streams.
pub fn streams(bytes: &[u8]) {
    streams_of_events::wire_law::law(bytes);
}

/// Messages of Postgres's logical decoding.
pub fn pgoutput(bytes: &[u8]) {
    capture::law::law(bytes);
}
