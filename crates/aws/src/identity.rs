//! Who calls the AWS door: an instance, or somebody outside.
//!
//! An instance signs with the key pair that it was given, and its signature is verified. Keys that Tangelo did not make
//! are taken as they are when a tool of this machine signs with them; when a process of an instance does, as code that
//! brings keys of its own does, it is that instance. What is not signed at all is refused, as AWS does: a web page can make
//! a browser send that, and nothing but an SDK sends a signature.

use std::sync::Arc;

use access::sigv4::{self, Claim, Payload, SignatureError};
use http::{HeaderMap, request::Parts};
use model::code;
use platform::{Caller, Ends, Holder, Platform, Presence};
use tokio::sync::OnceCell;

use crate::fault::Fault;

/// Who calls.
pub(crate) enum Identity {
    /// A workload's instance.
    Instance(Caller),
    /// Anybody else.
    Outside,
}

/// The other end of a connection.
pub(crate) struct Peer {
    ends: Ends,
    holder: OnceCell<Holder>,
}

impl Peer {
    pub(crate) fn new(ends: Ends) -> Self {
        Self {
            ends,
            holder: OnceCell::new(),
        }
    }

    /// Who it is when the key says nothing. Asked once for a connection.
    ///
    /// # Errors
    /// When it is an instance, and it is not known which.
    async fn identity(&self, platform: &Platform, headers: &HeaderMap) -> Result<Identity, Fault> {
        let holder = self.holder.get_or_init(|| platform.holder(self.ends));
        let Holder::Instance(keys) = holder.await else {
            return Ok(Identity::Outside);
        };
        let mut known = keys.iter().filter_map(|key| platform.keys().find(key));
        let (_, presence) = known.next().ok_or_else(|| {
            let message = format!(
                "this key is not one of the workload that signs with it: leave the credentials to the SDK, which finds \
                 those of the workload in its environment [{}]",
                code::AWS_SIGNATURE
            );
            Fault::new(403, "UnrecognizedClientException", message)
        })?;
        Ok(Identity::Instance(caller(headers, presence)))
    }
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
/// When it claims to be an instance and its signature does not verify, or is one and it is not known which.
pub(crate) async fn identify(
    platform: &Platform,
    peer: &Peer,
    claim: &Claim,
    head: &Parts,
    body: &[u8],
) -> Result<Identity, Fault> {
    let Some((secret, presence)) = platform.keys().find(&claim.key) else {
        return peer.identity(platform, &head.headers).await;
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
