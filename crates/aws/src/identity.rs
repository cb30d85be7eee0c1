//! Who calls the AWS door: an instance by the key pair that it was given, or somebody outside.
//!
//! An instance's signature is verified. Keys that Tangelo did not make are taken as they are: the door listens on
//! loopback, and local tools sign with whatever is in their environment.

use std::sync::Arc;

use access::sigv4::{self, Claim, Payload};
use http::{HeaderMap, request::Parts};
use model::code;
use platform::{Caller, Platform, Presence};

use crate::fault::Fault;

/// Who calls.
pub(crate) enum Identity {
    /// A workload's instance.
    Instance(Caller),
    /// Anybody else.
    Outside,
}

/// Finds out who sent a request with this head and body.
///
/// # Errors
/// When it claims to be an instance and its signature does not verify.
pub(crate) fn identify(platform: &Platform, head: &Parts, body: &[u8]) -> Result<Identity, Fault> {
    let Ok(claim) = Claim::of(&head.uri, &head.headers) else {
        return Ok(Identity::Outside);
    };
    let Some((secret, presence)) = platform.keys().find(&claim.key) else {
        return Ok(Identity::Outside);
    };
    let now = platform.clock().now();
    sigv4::verify(
        &head.method,
        &head.uri,
        &head.headers,
        Payload::Whole(body),
        &secret,
        now,
    )
    .map_err(|error| {
        Fault::new(
            403,
            error.aws_name(),
            format!("{error} [{}]", code::AWS_SIGNATURE),
        )
    })?;
    Ok(Identity::Instance(caller(&head.headers, presence)))
}

/// What a call of this instance belongs to: the trace it names, else the only thing that it works on.
fn caller(headers: &HeaderMap, presence: Arc<Presence>) -> Caller {
    let named =
        platform::mesh::from_headers(headers).and_then(|said| presence.of_trace(said.trace));
    let working = named.or_else(|| presence.only());
    Caller { presence, working }
}
