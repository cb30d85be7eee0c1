//! The request as a guest gets it: the shared adapter's request as a `wasi:http` resource in the store of its instance.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::HOST};
use http_body::{Frame, SizeHint};
use model::{ColdStart, Error, code};
use wasmtime_wasi_http::{Error as WasiError, WasiHttpView, p2::bindings::http::types::Scheme};

use super::{
    outbound,
    reuse::Instance,
    run::{Run, Start},
};
use crate::{
    body::{Body, BodyError},
    call::Input,
    http_input,
};

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
pub(super) fn handed_over(run: &Arc<Run>, input: Input) -> http::Request<IntoGuest> {
    let now = run.pool.ctx.clock.monotonic();
    let mut request = http_input::request(input, &run.invocation, now);
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, own_name(run));
    }
    request.map(|body| IntoGuest {
        body,
        run: Arc::clone(run),
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

/// A request's body on its way into a guest; remembers why it failed.
pub(super) struct IntoGuest {
    body: Body,
    run: Arc<Run>,
}

impl http_body::Body for IntoGuest {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let this = &mut *self;
        Pin::new(&mut this.body).poll_frame(cx).map_err(|error| {
            if let Some(coded) = coded(&error) {
                let _ = this.run.request_failed.set(coded);
            }
            outbound::to_guest(&error)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
