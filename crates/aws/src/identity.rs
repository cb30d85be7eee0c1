//! Who calls the AWS door: an instance by the key pair that it was given, or somebody outside.
//!
//! An instance's signature is verified. Keys that Tangelo did not make are taken as they are: the door listens on
//! loopback, and local tools sign with whatever is in their environment. What is not signed at all is refused, as AWS
//! does: a web page can make a browser send that, and nothing but an SDK sends a signature.

use std::sync::Arc;

use access::sigv4::{self, Claim, Payload, SignatureError};
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

/// Who a request with this head says that it is from.
///
/// # Errors
/// When it is not signed: then nothing of its body is read.
pub(crate) fn claim(head: &Parts) -> Result<Claim, Fault> {
    Claim::of(&head.uri, &head.headers).map_err(|error| refused(&error))
}

/// Finds out who sent a request with this head and body.
///
/// # Errors
/// When it claims to be an instance and its signature does not verify.
pub(crate) fn identify(
    platform: &Platform,
    claim: &Claim,
    head: &Parts,
    body: &[u8],
) -> Result<Identity, Fault> {
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
    .map_err(|error| refused(&error))?;
    Ok(Identity::Instance(caller(&head.headers, presence)))
}

fn refused(error: &SignatureError) -> Fault {
    let hint = match error {
        SignatureError::Missing => "; any key pair will do for tools on this machine",
        _ => "",
    };
    let message = format!("{error}{hint} [{}]", code::AWS_SIGNATURE);
    Fault::new(403, error.aws_name(), message)
}

/// What a call of this instance belongs to: the trace it names, else the only thing that it works on.
fn caller(headers: &HeaderMap, presence: Arc<Presence>) -> Caller {
    let named =
        platform::mesh::from_headers(headers).and_then(|said| presence.of_trace(said.trace));
    let working = named.or_else(|| presence.only());
    Caller { presence, working }
}
