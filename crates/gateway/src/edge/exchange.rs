//! One request's identity: its id, its trace, the gateway's span, and when it came.

use std::time::{Duration, Instant};

use http::{HeaderValue, request::Parts};
use model::{Error, InvocationId, TraceContext};
use platform::{Platform, mesh};

use crate::{
    authority::Authority,
    forwarded::{self, Peer},
    headers,
    trail::Trail,
};

/// About how many headers a request gets on its way to a workload.
const PLATFORM_HEADERS: usize = 10;

/// What is known of a request from its head.
pub(super) struct Exchange {
    /// The id of the invocation that it will be.
    pub(super) id: InvocationId,
    /// What the client calls it, else the same id.
    pub(super) request_id: HeaderValue,
    /// Its trace, below the gateway's span.
    pub(super) trace: TraceContext,
    /// When it came, on the monotonic clock.
    pub(super) began: Instant,
    /// The gateway's span.
    pub(super) trail: Box<Trail>,
}

impl Exchange {
    /// Reads `head` and begins the gateway's span.
    pub(super) fn begin(platform: &Platform, head: &Parts) -> Self {
        let id = platform.ids().invocation(platform.clock());
        let request_id = headers::client_request_id(&head.headers).unwrap_or_else(|| {
            HeaderValue::from_str(id.text(&mut [0; 36])).expect("an id is hex digits and dashes")
        });
        let trace = mesh::from_headers(&head.headers).unwrap_or_else(|| platform.new_trace());
        let span = platform.ids().span();
        let trail = Trail::begin(
            platform.telemetry(),
            platform.clock(),
            trace,
            span,
            &head.method,
            head.uri.path(),
        );
        Self {
            id,
            request_id,
            trace: trace.below(span),
            began: platform.clock().monotonic(),
            trail,
        }
    }

    /// The id as text.
    pub(super) fn request_id(&self) -> Option<&str> {
        self.request_id.to_str().ok()
    }

    /// The moment by which an answer that may take `timeout` must be there.
    pub(super) fn deadline(&self, timeout: Duration) -> Instant {
        self.began + timeout
    }

    /// Makes `head` what a workload may see: borders kept, the client written down, identity set.
    ///
    /// # Errors
    /// `BAD_REQUEST` when it is not certain whom the request is addressed to.
    pub(super) fn enter(&self, head: &mut Parts, peer: &Peer) -> Result<Authority, Error> {
        let authority = Authority::read(head)?;
        // Room for all that is written down here and at the workload, at once and not piece by piece.
        head.headers.reserve(PLATFORM_HEADERS);
        headers::enter(&mut head.headers);
        // hyper has answered it, or will when the body is read.
        head.headers.remove(http::header::EXPECT);
        forwarded::write(&mut head.headers, peer, authority.value());
        if let Some(host) = authority.value() {
            head.headers
                .entry(http::header::HOST)
                .or_insert_with(|| host.clone());
        }
        head.headers
            .insert(headers::REQUEST_ID, self.request_id.clone());
        head.version = http::Version::HTTP_11;
        head.extensions.clear();
        Ok(authority)
    }
}
