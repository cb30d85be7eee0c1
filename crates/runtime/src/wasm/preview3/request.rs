//! The request as a guest of WASI 0.3 gets it: the shared adapter's request, with scheme and authority apart.

use std::sync::Arc;

use http::{HeaderMap, Method, header::HOST, uri};
use http_body_util::BodyExt;
use model::{Error, code};
use wasmtime_wasi_http::WasiBody;

use crate::{
    call::Input,
    wasm::{request::handed_over, run::Run},
};

/// What is put into the store of an instance.
pub(super) struct Incoming {
    pub(super) method: Method,
    pub(super) scheme: uri::Scheme,
    pub(super) authority: Option<uri::Authority>,
    pub(super) path: Option<uri::PathAndQuery>,
    pub(super) headers: HeaderMap,
    pub(super) body: WasiBody,
}

/// The request that a guest gets for `input`.
///
/// # Errors
/// `BAD_REQUEST` when its host is none.
pub(super) fn request(run: &Arc<Run>, input: Input) -> Result<Incoming, Error> {
    let (parts, body) = handed_over(run, input).into_parts();
    let is_tls = parts
        .headers
        .get("x-forwarded-proto")
        .is_some_and(|proto| proto == "https");
    let authority = match (parts.uri.authority(), parts.headers.get(HOST)) {
        (Some(authority), _) => Some(authority.clone()),
        (None, Some(host)) => {
            let host = uri::Authority::try_from(host.as_bytes());
            Some(host.map_err(|e| {
                Error::new(code::BAD_REQUEST, "the request's host is none").context(e)
            })?)
        }
        (None, None) => None,
    };
    Ok(Incoming {
        method: parts.method,
        scheme: if is_tls {
            uri::Scheme::HTTPS
        } else {
            uri::Scheme::HTTP
        },
        authority,
        path: parts.uri.path_and_query().cloned(),
        headers: parts.headers,
        body: body.boxed_unsync(),
    })
}
