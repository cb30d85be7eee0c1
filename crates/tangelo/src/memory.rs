//! How much memory a server may come to need: a sum that follows from its limits, for `tangelo config`.
//!
//! Each part is what the worst clients and workloads can make of it at the same time, not what is usual: an idle
//! connection takes a tenth of what one takes that fills every buffer.

use gateway::edge::publishers;
use model::{ByteSize, Limits};
use serde::Serialize;

/// The program itself: its code, its threads, the database's caches, and an app or two.
const PROGRAM: u64 = 128 << 20;

/// A connection's own state, over TLS, and what the kernel's readiness costs us.
const CONNECTION_STATE: u64 = 48 << 10;

/// Of an answer, what waits in a connection for a client that does not take it.
const UNSENT: u64 = 64 << 10;

/// Connections to each of the control, AWS and OTLP ports, and the size of their buffers.
const OTHER_PORTS: u64 = 3 * 1024;

/// What an HTTP/2 client may have sent of a body that nobody has read yet.
const UNREAD: u64 = 256 << 10;

/// Buffers of the connection to the workload, one in each direction.
const UPSTREAM: u64 = 2 * (64 << 10);

/// The stack of a Wasm guest.
const GUEST_STACK: u64 = 2 << 20;

/// What the store holds beside its queue: the batch that is being written, and pages of the database.
const STORE: u64 = 32 << 20;

/// Spans that wait for a collector, lines for whoever follows them, and traces that were decided about.
const TELEMETRY: u64 = 64 << 20;

/// One summand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Part {
    /// What takes it.
    pub(crate) what: &'static str,
    /// How much, in bytes.
    pub(crate) bytes: u64,
    /// The settings that it follows from.
    pub(crate) follows_from: &'static str,
}

/// The sum and its parts.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Bound {
    /// Bytes of resident memory that the server stays under.
    pub(crate) bytes: u64,
    /// What they are.
    pub(crate) parts: Vec<Part>,
    /// What comes on top for what is deployed.
    pub(crate) beside: [&'static str; 3],
}

/// What comes on top for what is deployed, since no setting bounds that.
const BESIDE: [&str; 3] = [
    "for each subscription that is behind: up to 4 MiB of events",
    "for each component that is in use: its compiled code",
    "for each handler that answers: its reply, up to 6 MiB",
];

/// The bound under `limits`.
pub(crate) fn bound(limits: &Limits) -> Bound {
    let part = |what, bytes, follows_from| Part {
        what,
        bytes,
        follows_from,
    };
    let head = ByteSize::kib(64).0;
    let connection = CONNECTION_STATE + head + UNSENT;
    let gateway = limits.connections as u64;
    let mesh = mesh_connections(limits) as u64;
    let requests = u64::from(limits.requests) * (UNREAD + UNSENT + UPSTREAM + 2 * head);
    let publishers = publishers::MOST.min(limits.connections);
    let guests = u64::from(limits.wasm_guests);
    let warm = runtime::wasm::Options::default();
    let kept_warm = guests.min(u64::from(warm.warm)) * runtime::wasm::KEPT_WARM as u64;
    let spans = platform::telemetry::Sampling::default().memory.0;
    let parts = vec![
        part("the program", PROGRAM, ""),
        part("connections", (gateway + mesh) * connection, "connections"),
        part(
            "connections to the other ports",
            OTHER_PORTS * connection,
            "",
        ),
        part("requests under way", requests, "requests"),
        part(
            "connections that publish by messages",
            publishers as u64 * (publishers::BUFFERS.0 + limits.event.0),
            "connections, event",
        ),
        part(
            "bodies that must be whole",
            limits.body_buffers.0,
            "body_buffers",
        ),
        part("memory of Wasm guests", limits.wasm_memory.0, "wasm_memory"),
        part("stacks of Wasm guests", guests * GUEST_STACK, "wasm_guests"),
        part(
            "stacks of the tasks of WASI 0.3",
            if limits.wasi_preview3 {
                guests * GUEST_STACK
            } else {
                0
            },
            "wasm_guests, wasi_preview3",
        ),
        part(
            "memory kept for the next Wasm guests",
            kept_warm,
            "wasm_guests",
        ),
        part("what waits to be stored", limits.writer_queue.0 + STORE, ""),
        part("spans and lines", spans + TELEMETRY, ""),
    ];
    Bound {
        bytes: parts.iter().map(|part| part.bytes).sum(),
        parts,
        beside: BESIDE,
    }
}

/// Connections of workloads to the mesh at the same time: they are fewer than clients, and keep theirs.
pub(crate) const fn mesh_connections(limits: &Limits) -> usize {
    let quarter = limits.connections / 4;
    if quarter < 64 { 64 } else { quarter }
}

/// Bytes as people read them.
pub(crate) fn shown(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for people, to one digit")]
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 {
        format!("{mib:.0} MiB")
    } else {
        format!("{:.1} GiB", mib / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_follows_every_limit_that_it_is_made_of() {
        let usual = Limits::default();
        let more = |change: fn(&mut Limits)| {
            let mut limits = usual;
            change(&mut limits);
            bound(&limits).bytes - bound(&usual).bytes
        };
        assert!(more(|l| l.connections += 4) >= 5 * (160 << 10));
        assert!(more(|l| l.requests += 1) >= 512 << 10);
        assert_eq!(more(|l| l.body_buffers.0 += 7), 7);
        assert_eq!(more(|l| l.wasm_memory.0 += 7), 7);
        assert_eq!(more(|l| l.wasm_guests += 1), 2 << 20);
        assert_eq!(more(|l| l.wasi_preview3 = true), 1000 * (2 << 20));
        assert_eq!(more(|l| l.writer_queue.0 += 7), 7);
        let bound = bound(&usual);
        let sum: u64 = bound.parts.iter().map(|part| part.bytes).sum();
        assert_eq!(sum, bound.bytes);
    }
}
