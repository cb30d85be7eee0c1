//! Every limit in one table, so that each is written once and `tangelo config` can print them all.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::ByteSize;

/// Which table of limits holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Tangelo's own.
    #[default]
    Tangelo,
    /// As AWS has them in 2026, for parity tests.
    Aws,
}

/// The limits of a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body at the gateway unless a route says otherwise.
    pub request_body: ByteSize,
    /// Largest payload of a synchronous Lambda invocation.
    pub sync_payload: ByteSize,
    /// Largest reply that a Lambda handler streams.
    pub streamed_payload: ByteSize,
    /// Most that a Lambda instance may keep in its temporary folder.
    pub scratch: ByteSize,
    /// Most memory that warm templates of Lambda runtimes may take together.
    pub templates: ByteSize,
    /// Largest payload of an asynchronous invocation.
    pub async_payload: ByteSize,
    /// Largest event, its attributes included.
    pub event: ByteSize,
    /// Most events in one publish.
    pub publish_batch: usize,
    /// Largest value under a key of a bucket.
    pub keyvalue_value: ByteSize,
    /// Most keys in all buckets of one app.
    pub keyvalue_keys: u64,
    /// Most bytes of keys and values in all buckets of one app.
    pub keyvalue_bytes: ByteSize,
    /// Largest `tangelo.yaml`.
    pub manifest: ByteSize,
    /// Deepest nesting of any JSON or YAML from outside.
    pub depth: usize,
    /// Steps of a chain of calls and events that cause each other, 1 to [`crate::invocation::MAX_CHAIN_DEPTH`]; deeper ones
    /// are refused: a loop, almost certainly.
    pub chain_depth: u8,
    /// Largest Wasm component.
    pub component: ByteSize,
    /// Largest artifact of one workload.
    pub artifact: ByteSize,
    /// Payloads up to this size are stored in the row, larger ones as blobs.
    pub inline_payload: ByteSize,
    /// Longest invocation that a manifest may ask for.
    pub timeout: Duration,
    /// Longest time for a client to send its request head.
    pub head_timeout: Duration,
    /// Longest silence inside a body, either way.
    pub body_idle: Duration,
    /// Bytes of request bodies that are held whole at the same time, all workloads together.
    pub body_buffers: ByteSize,
    /// Connections to the gateway at the same time, WebSockets among them; more wait in the kernel's queue.
    pub connections: usize,
    /// Invocations under way at the same time, all workloads together; connections that were upgraded count as
    /// connections only. More are refused.
    pub requests: u32,
    /// Wasm guests alive at the same time; more wait for a place.
    pub wasm_guests: u32,
    /// Linear memory of all Wasm guests together; when it is taken, new ones are refused.
    pub wasm_memory: ByteSize,
    /// Whether components of WASI 0.3 run, beside those of 0.2.
    pub wasi_preview3: bool,
    /// Connections to the gateway that one client (an IPv4 address, a /64 of IPv6) has at the same time.
    pub client_connections: usize,
    /// Bytes of commands waiting for the store's writer, beyond which publishes are refused.
    pub writer_queue: ByteSize,
    /// Bytes of one log line; what is longer is cut and says so.
    pub log_line: ByteSize,
}

impl Limits {
    /// The table of `profile`.
    #[must_use]
    pub const fn of(profile: Profile) -> Self {
        match profile {
            Profile::Tangelo => Self::TANGELO,
            Profile::Aws => Self {
                event: ByteSize::kib(256),
                publish_batch: 10,
                ..Self::TANGELO
            },
        }
    }

    /// Largest body of one publish, unpacked: many events in it share it.
    #[must_use]
    pub const fn publish_body(&self) -> ByteSize {
        ByteSize(self.event.0.saturating_mul(16))
    }

    const TANGELO: Self = Self {
        request_body: ByteSize::mib(100),
        sync_payload: ByteSize::mib(6),
        streamed_payload: ByteSize::mib(200),
        scratch: ByteSize::mib(512),
        templates: ByteSize::mib(256),
        async_payload: ByteSize::mib(1),
        event: ByteSize::mib(1),
        publish_batch: 1000,
        keyvalue_value: ByteSize::mib(8),
        keyvalue_keys: 1_000_000,
        keyvalue_bytes: ByteSize::mib(4096),
        manifest: ByteSize::mib(1),
        depth: 64,
        chain_depth: 16,
        component: ByteSize::mib(100),
        artifact: ByteSize::mib(512),
        inline_payload: ByteSize::kib(16),
        timeout: Duration::from_secs(24 * 3600),
        head_timeout: Duration::from_secs(10),
        body_idle: Duration::from_secs(60),
        body_buffers: ByteSize::mib(512),
        connections: 20_000,
        requests: 8192,
        wasm_guests: 1000,
        wasm_memory: ByteSize::mib(2048),
        wasi_preview3: false,
        client_connections: 1000,
        writer_queue: ByteSize::mib(64),
        log_line: ByteSize::kib(16),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::TANGELO
    }
}
