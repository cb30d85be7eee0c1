//! The request as a guest gets it: the shared adapter's request as a `wasi:http` resource in the store of its instance.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::HOST};
use http_body_util::BodyExt;
use model::{ColdStart, Error, code};
use wasmtime_wasi_http::{Error as WasiError, WasiHttpView, p2::bindings::http::types::Scheme};

use super::{
    outbound,
    reuse::Instance,
    run::{Run, Start},
};
use crate::{
    body::BodyError,
    call::Input,
    http_input::{self, Traces, find},
};

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Puts the request and the place for the response into the store of an instance.
pub(super) fn start(
    run: &Arc<Run>,
    mut instance: Instance,
    input: Input,
    cold: ColdStart,
) -> Result<Start, Error> {
    let request = handed_over(run, input);
    let scheme = scheme(request.headers());
    let mut http = instance.store.data_mut().http();
    let request = http.new_incoming_request(scheme, request).map_err(|e| {
        Error::new(code::BAD_REQUEST, "the request's host is not text").context(format!("{e:?}"))
    })?;
    let answered = Arc::clone(run);
    let response = http
        .new_response_outparam_from_callback(move |head| answered.answer(head))
        .map_err(|e| Error::internal(format!("{e:?}")))?;
    Ok(Start {
        instance,
        request,
        response,
        cold,
    })
}

/// The shared adapter's request, with a host and a body that a guest can have.
pub(super) fn handed_over(
    run: &Arc<Run>,
    input: Input,
) -> http::Request<impl http_body::Body<Data = Bytes, Error = WasiError> + Send + 'static> {
    let now = run.pool.ctx.clock.monotonic();
    let mut request = http_input::request(input, &run.invocation, Traces::W3c, now);
    let headers = request.headers();
    // The host that the client asked for is the one that a guest sees: saying it twice costs it as much as any header.
    if find(headers, &FORWARDED_HOST).is_some_and(|said| Some(said) == headers.get(HOST)) {
        request.headers_mut().remove(FORWARDED_HOST);
    }
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, own_name(run));
    }
    let run = Arc::clone(run);
    request.map(|body| {
        body.map_err(move |error| {
            // Why it failed is remembered: what the guest makes of that is not its own failure.
            if let Some(coded) = coded(&error) {
                let _ = run.request_failed.set(coded);
            }
            outbound::to_guest(&error)
        })
    })
}

/// What the client spoke, as the gateway has written it down.
fn scheme(headers: &HeaderMap) -> Scheme {
    match headers.get("x-forwarded-proto") {
        Some(proto) if proto == "https" => Scheme::Https,
        _ => Scheme::Http,
    }
}

fn own_name(run: &Run) -> HeaderValue {
    let name = format!("{}.internal", run.invocation.target.workload);
    HeaderValue::from_maybe_shared(Bytes::from(name)).expect("a workload's name is ASCII")
}

fn coded(error: &BodyError) -> Option<Error> {
    match error {
        BodyError::TooLarge(limit) => Some(Error::new(
            code::BODY_TOO_LARGE,
            format!("the request body is larger than {limit}"),
        )),
        BodyError::Idle => Some(Error::new(
            code::REQUEST_TIMEOUT,
            "the request body paused for too long",
        )),
        BodyError::Workload(error) => Some(error.clone()),
        BodyError::Connection(_) => None,
    }
}
