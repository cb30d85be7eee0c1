//! Invoke: RequestResponse, Event and DryRun; and InvokeWithResponseStream, whose answer is an event stream.

use std::sync::Arc;

use super::{event_stream, names};
use crate::{
    REQUEST_ID,
    fault::{self, Fault},
    identity::Identity,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use model::{
    Category, Class, Error, Invocation, InvocationId, Principal, TraceContext, Trigger, code,
};
use platform::{Body, BodyError, FunctionError, Input, LogTail, Platform, dispatch::Callee};
use serde_json::{Value, json};

/// How an invocation is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RequestResponse,
    Event,
    DryRun,
}

pub(super) async fn invoke(
    platform: &Platform,
    identity: Identity,
    name: &str,
    request: Request<Bytes>,
) -> Result<Response<Body>, Fault> {
    let (head, body) = request.into_parts();
    let kind = kind(&head.headers)?;
    refuse_unsupported(&head.headers, head.uri.query())?;
    let callee = names::resolve(platform, &identity, name)?;
    may_call(platform, &identity, &callee)?;
    let payload = payload(platform, kind, body)?;
    match kind {
        Kind::DryRun => Ok(empty(StatusCode::NO_CONTENT)),
        Kind::Event => accept(platform, &identity, &callee, payload, &head.headers).await,
        Kind::RequestResponse => run(platform, &identity, &callee, payload, &head.headers).await,
    }
}

/// InvokeWithResponseStream: as `Invoke`, but the reply goes out in pieces while it is made.
pub(super) async fn stream(
    platform: &Platform,
    identity: Identity,
    name: &str,
    request: Request<Bytes>,
) -> Result<Response<Body>, Fault> {
    let (head, body) = request.into_parts();
    let kind = kind(&head.headers)?;
    if kind == Kind::Event {
        let message = "InvocationType is `Event`: expected RequestResponse or DryRun";
        return Err(Fault::new(400, "InvalidParameterValueException", message));
    }
    refuse_unsupported(&head.headers, head.uri.query())?;
    let callee = names::resolve(platform, &identity, name)?;
    may_call(platform, &identity, &callee)?;
    let payload = payload(platform, kind, body)?;
    if kind == Kind::DryRun {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    let invocation = invocation(platform, &identity, &callee, &head.headers);
    let (id, input) = (invocation.id, Input::Stream(payload));
    let response = match start(platform, &callee, invocation, input).await {
        Ok(response) => streamed(platform, response, &head.headers).await?,
        Err(error) if is_its_own(&error) => {
            let details = event_stream::object(&error).to_string();
            messages(Body::full(event_stream::failed(
                unhandled_as(details),
                None,
            )))
        }
        Err(error) => return Err(Fault::from(error)),
    };
    Ok(known_as(id, response))
}

/// The reply as messages; of a handler that failed before it replied there is only the last.
async fn streamed(
    platform: &Platform,
    response: Response<Body>,
    asked: &HeaderMap,
) -> Result<Response<Body>, Fault> {
    let (mut head, body) = response.into_parts();
    let wants_log = asked.get("x-amz-log-type").is_some_and(|v| v == "Tail");
    let log = head.extensions.remove::<LogTail>();
    let log = log.as_ref().map(|LogTail(log)| &**log);
    let failed = head.extensions.remove::<FunctionError>().is_some() || head.status.as_u16() >= 400;
    if !failed {
        let body = event_stream::Messages::of(body, log, wants_log);
        return Ok(messages(Body::stream(body)));
    }
    let limit = platform.limits().sync_payload;
    let object = body.collect(limit).await;
    let object = object.map_err(|error| fault::body(&error, limit))?;
    let details = String::from_utf8_lossy(&object).into_owned();
    let last = event_stream::failed(unhandled_as(details), log.filter(|_| wants_log));
    Ok(messages(Body::full(last)))
}

fn unhandled_as(details: String) -> event_stream::Failure {
    event_stream::Failure {
        code: "Unhandled".to_owned(),
        details,
    }
}

fn messages(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    for (name, value) in [
        ("content-type", event_stream::MEDIA_TYPE),
        ("x-amz-executed-version", "$LATEST"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn start(
    platform: &Platform,
    callee: &Arc<Callee>,
    invocation: Invocation,
    input: Input,
) -> Result<Response<Body>, Error> {
    let permit = platform.dispatch().admit(callee, invocation.class);
    let permit = permit.map_err(|refused| refused.0)?;
    platform.dispatch().invoke(permit, invocation, input).await
}

/// What the code did wrong is a 200 with FunctionError; what the platform could not do is an error.
const fn is_its_own(error: &Error) -> bool {
    matches!(error.category, Category::WorkloadFailed | Category::Timeout)
}

fn kind(headers: &HeaderMap) -> Result<Kind, Fault> {
    match headers
        .get("x-amz-invocation-type")
        .map(HeaderValue::as_bytes)
    {
        None | Some(b"RequestResponse") => Ok(Kind::RequestResponse),
        Some(b"Event") => Ok(Kind::Event),
        Some(b"DryRun") => Ok(Kind::DryRun),
        Some(other) => {
            let message = format!(
                "InvocationType is `{}`: expected RequestResponse, Event or DryRun",
                other.escape_ascii()
            );
            Err(Fault::new(400, "InvalidParameterValueException", message))
        }
    }
}

fn refuse_unsupported(headers: &HeaderMap, query: Option<&str>) -> Result<(), Fault> {
    let unsupported = |what: &str| {
        Err(Fault::new(
            400,
            "InvalidParameterValueException",
            format!("{what} is not supported by Tangelo yet"),
        ))
    };
    for (header, what) in [
        ("x-amz-tenant-id", "TenantId"),
        ("x-amz-durable-execution-name", "DurableExecutionName"),
    ] {
        if headers.contains_key(header) {
            return unsupported(what);
        }
    }
    match query.filter(|q| !q.is_empty()) {
        None | Some("Qualifier=%24LATEST" | "Qualifier=$LATEST") => Ok(()),
        Some(other) => unsupported(&format!("`{}`", other.escape_default())),
    }
}

/// An instance may invoke what its manifest declares that it calls, and nothing else: as on the mesh.
fn may_call(platform: &Platform, identity: &Identity, callee: &Callee) -> Result<(), Fault> {
    let Identity::Instance(caller) = identity else {
        return Ok(());
    };
    let known = platform.versions().get(caller.presence.version)?;
    let local = callee.target.workload.as_str();
    let full = callee.target.to_string();
    let same_app = callee.target.app == known.app;
    let declared = if same_app && known.may_call(local).is_ok() {
        Ok(())
    } else {
        known.may_call(&full).map(drop)
    };
    declared.map_err(Fault::from)
}

fn payload(platform: &Platform, kind: Kind, bytes: Bytes) -> Result<Bytes, Fault> {
    let limit = if kind == Kind::Event {
        platform.limits().async_payload
    } else {
        platform.limits().sync_payload
    };
    if bytes.len() as u64 > limit.0 {
        return Err(fault::body(&BodyError::TooLarge(limit), limit));
    }
    if bytes.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let message = format!("Could not parse request body into json: {error}");
            Err(Fault::new(400, "InvalidRequestContentException", message))
        }
    }
}

async fn run(
    platform: &Platform,
    identity: &Identity,
    callee: &Arc<Callee>,
    payload: Bytes,
    headers: &HeaderMap,
) -> Result<Response<Body>, Fault> {
    let invocation = invocation(platform, identity, callee, headers);
    let (id, input) = (invocation.id, Input::Payload(payload));
    let response = match start(platform, callee, invocation, input).await {
        Ok(response) => answer(response, headers),
        Err(error) if is_its_own(&error) => unhandled(&error),
        Err(error) => return Err(Fault::from(error)),
    };
    Ok(known_as(id, response))
}

/// The request id of an invoke is that of its invocation: what the handler has as its own, and what logs, traces and
/// `GET /_tangelo/invocations/ID` go by.
fn known_as(id: InvocationId, mut response: Response<Body>) -> Response<Body> {
    if let Ok(id) = id.to_string().parse() {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn answer(response: Response<Body>, asked: &HeaderMap) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let error = head.extensions.remove::<FunctionError>().map(|e| e.0);
    let error = error.or_else(|| (head.status.as_u16() >= 400).then_some("Unhandled"));
    let tail = head.extensions.remove::<LogTail>();
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(
        "x-amz-executed-version",
        HeaderValue::from_static("$LATEST"),
    );
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if let Some(error) = error {
        headers.insert("x-amz-function-error", HeaderValue::from_static(error));
    }
    if asked.get("x-amz-log-type").is_some_and(|v| v == "Tail")
        && let Some(LogTail(tail)) = tail
        && let Ok(text) = HeaderValue::from_str(&STANDARD.encode(tail))
    {
        headers.insert("x-amz-log-result", text);
    }
    answer
}

/// A failure of the code that left no error object of its own, in the shape that Lambda gives it.
fn unhandled(error: &Error) -> Response<Body> {
    let kind = if error.code == code::WORKLOAD_TIMEOUT {
        "Sandbox.Timedout"
    } else {
        "Runtime.ExitError"
    };
    let body: Value = json!({"errorType": kind, "errorMessage": error.message});
    let mut response = fault::json_response(StatusCode::OK, &body);
    response.headers_mut().insert(
        "x-amz-function-error",
        HeaderValue::from_static("Unhandled"),
    );
    response.headers_mut().insert(
        "x-amz-executed-version",
        HeaderValue::from_static("$LATEST"),
    );
    response
}

async fn accept(
    platform: &Platform,
    identity: &Identity,
    callee: &Arc<Callee>,
    payload: Bytes,
    headers: &HeaderMap,
) -> Result<Response<Body>, Fault> {
    let mut cause = invocation(platform, identity, callee, headers).cause(Class::Async);
    cause.depth = cause.depth.saturating_sub(1);
    let calls = platform.calls();
    let id = calls.accept_payload(callee, payload, cause, None).await?;
    Ok(known_as(id, empty(StatusCode::ACCEPTED)))
}

fn invocation(
    platform: &Platform,
    identity: &Identity,
    callee: &Arc<Callee>,
    headers: &HeaderMap,
) -> Invocation {
    let trace = trace(platform, identity, headers);
    match identity {
        Identity::Outside => platform.invocation(
            callee,
            Trigger::Direct,
            Class::Interactive,
            Vec::new(),
            trace,
        ),
        Identity::Instance(caller) => {
            let name = format!("{}/{}", caller.presence.app, caller.presence.workload);
            let mut principals = caller
                .working
                .as_ref()
                .map(|w| w.0.principals.clone())
                .unwrap_or_default();
            principals.push(Principal::Workload(name.as_str().into()));
            let mut invocation = platform.invocation(
                callee,
                Trigger::Mesh(name.into()),
                Class::Interactive,
                principals,
                trace,
            );
            if let Some(working) = &caller.working {
                invocation.deadline = invocation.deadline.min(working.0.deadline);
                invocation.depth = working.0.depth + 1;
                invocation.class = working.0.class;
            }
            invocation
        }
    }
}

fn trace(platform: &Platform, identity: &Identity, headers: &HeaderMap) -> TraceContext {
    let working = match identity {
        Identity::Instance(caller) => caller.working.as_ref().map(|w| w.0.trace),
        Identity::Outside => None,
    };
    working
        .or_else(|| platform::mesh::from_headers(headers))
        .unwrap_or_else(|| platform.new_trace())
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}
