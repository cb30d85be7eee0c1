//! Who calls the AWS door: an instance, or somebody outside.
//!
//! An instance signs with the key pair that it was given, and its signature is verified. Keys that Tangelo did not make
//! are taken as they are when a tool of this machine signs with them; when a process of an instance does, as code that
//! brings keys of its own does, it is that instance. What is not signed at all is refused, as AWS does: a web page can make
//! a browser send that, and nothing but an SDK sends a signature. A page whose name was made to lead here (DNS rebinding)
//! could sign, so what a page sends is refused by what its browser says of it, signed or not.

use std::{net::IpAddr, sync::Arc};

use access::sigv4::{self, Claim, Payload, SignatureError};
use http::{
    HeaderMap,
    header::{HOST, ORIGIN},
    request::Parts,
};
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
pub(crate) fn claim(head: &Parts, peer: &Peer) -> Result<Claim, Fault> {
    if is_of_a_page(head, peer.ends.own.ip()) {
        let message = format!(
            "this came from a web page, or for a name that is not this machine's: use http://localhost:{} as the endpoint \
             [{}]",
            peer.ends.own.port(),
            code::AWS_SIGNATURE
        );
        return Err(Fault::new(403, "AccessDeniedException", message));
    }
    Claim::of(&head.uri, &head.headers).map_err(|error| refused(&error))
}

/// Endings of names that nobody can register in the public DNS to lead somewhere else, and one that leads only here.
const OURS: [&str; 4] = [
    ".localhost",
    ".local",
    ".internal",
    ".localhost.localstack.cloud",
];

/// Whether a browser sent it for a page (it says for which, but for plain reads), or on this machine's own address for a
/// name of the public DNS.
fn is_of_a_page(head: &Parts, own: IpAddr) -> bool {
    if head.headers.contains_key(ORIGIN) || head.headers.contains_key("sec-fetch-site") {
        return true;
    }
    let host = head
        .headers
        .get(HOST)
        .map(|host| host.to_str().unwrap_or("?."));
    let host = head.uri.host().or(host).unwrap_or_default();
    if !own.to_canonical().is_loopback() || host.starts_with('[') {
        return false;
    }
    let name = host.split(':').next().unwrap_or_default();
    let name = format!(".{}", name.trim_end_matches('.').to_ascii_lowercase());
    let public = name[1..].contains('.') && name[1..].parse::<IpAddr>().is_err();
    public && !OURS.iter().any(|ending| name.ends_with(ending))
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

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn pages_and_names_that_lead_here_from_elsewhere_are_told_by_their_heads() {
        let here: IpAddr = "127.0.0.1".parse().expect("an address");
        let there: IpAddr = "192.0.2.1".parse().expect("an address");
        let of_a_page = |own, headers: &[(&str, &str)]| {
            let mut request = Request::post("/2015-03-31/functions/f/invocations");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).expect("a request").into_parts();
            is_of_a_page(&head, own)
        };
        for host in [
            "localhost:4566",
            "127.0.0.1:4566",
            "[::1]:4566",
            "lambda.localhost:4566",
            "localhost.localstack.cloud:4566",
            "tangelo:4566",
            "host.docker.internal:4566",
            "LOCALHOST",
        ] {
            assert!(!of_a_page(here, &[("host", host)]), "{host}");
            assert!(of_a_page(
                here,
                &[("host", host), ("origin", "http://localhost")]
            ));
            assert!(of_a_page(
                here,
                &[("host", host), ("sec-fetch-site", "none")]
            ));
        }
        for host in [
            "evil.example:4566",
            "a.localhost.evil.example",
            "localhost.evil.example.",
        ] {
            assert!(of_a_page(here, &[("host", host)]), "{host}");
            assert!(!of_a_page(there, &[("host", host)]), "{host}");
        }
    }
}
