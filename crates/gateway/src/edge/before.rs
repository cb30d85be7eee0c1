//! What is asked before a route's target: each workload gets the request's head, and lets it pass (2xx) or answers it.
//!
//! What it adds (`x-…` headers, a principal) replaces what the client sent under these names.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, Request, Response, Uri,
    header::{
        CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, UPGRADE,
    },
    request::Parts,
};
use model::{ByteSize, Class, Error, Invocation, Principal, Trigger, code};
use platform::{
    Body, Inferred, Input,
    dispatch::{Callee, Permit},
    telemetry::{Attributes, Span, SpanKind},
};

use super::{
    EdgeFront,
    decisions::{self, Decision},
    exchange::Exchange,
    table::Serving,
};
use crate::headers;

/// The body of an answer that lets a request pass is read to here, so that its invocation ends well.
const IGNORED_BODY: ByteSize = ByteSize::kib(64);
/// The longest name of a principal, in bytes.
const MAX_PRINCIPAL: usize = 256;
/// Headers beginning with `x-` that are the gateway's own, whoever says them.
const OWN: &[&str] = &["x-request-id", "x-amzn-trace-id", "x-real-ip"];

/// What those who were asked said.
pub(super) enum Asked {
    /// All let it pass; on whose behalf it is.
    Pass(Vec<Principal>),
    /// One answered itself.
    Answer(Response<Body>),
}

impl EdgeFront {
    /// Asks everyone before `serving`, in order; what they add is in `head` afterwards.
    pub(super) async fn ask(
        &self,
        serving: &Serving,
        exchange: &Exchange,
        head: &mut Parts,
    ) -> Result<Asked, Error> {
        if serving.before.is_empty() {
            return Ok(Asked::Pass(Vec::new()));
        }
        let mut principal = None;
        let mut reserved = self.reserve(serving).into_iter();
        for (callee, cache) in &serving.before {
            let reserved = reserved.next().flatten();
            let asked = self.decide(serving, exchange, head, callee, *cache, reserved);
            let decision = match Box::pin(asked).await? {
                Ok(decision) => decision,
                Err(answer) => return Ok(Asked::Answer(answer)),
            };
            apply(&decision, &mut head.headers);
            principal = decision.principal.clone().or(principal);
        }
        Ok(Asked::Pass(
            principal.map(Principal::User).into_iter().collect(),
        ))
    }

    /// Places with those who are asked after others, as far as there are any: by the time that their turn comes, their
    /// revision may have been replaced, and takes nobody new.
    fn reserve(&self, serving: &Serving) -> Vec<Option<Permit>> {
        if serving.before.len() < 2 {
            return Vec::new();
        }
        let dispatch = self.platform.dispatch();
        let callees = serving.before.iter().map(|(callee, _)| callee);
        callees
            .map(|callee| dispatch.admit_within(callee, Class::Interactive).ok())
            .collect()
    }

    /// What `callee` says, now or not long ago. The inner error is its own answer to the client.
    async fn decide(
        &self,
        serving: &Serving,
        exchange: &Exchange,
        head: &Parts,
        callee: &Arc<Callee>,
        cache: Option<Duration>,
        reserved: Option<Permit>,
    ) -> Result<Result<Arc<Decision>, Response<Body>>, Error> {
        let now = self.platform.clock().now();
        let kept = cache.and_then(|allowed| Some((decisions::key(callee, head)?, allowed)));
        if let Some(decision) = kept.and_then(|(key, _)| self.decisions.find(&key, now)) {
            self.note_cached(exchange, callee);
            return Ok(Ok(decision));
        }
        let response = self.call(serving, exchange, head, callee, reserved).await?;
        if response.extensions().get::<Inferred>().is_some() {
            return Err(says_nothing(callee));
        }
        if !response.status().is_success() {
            return Ok(Err(response));
        }
        let decision = Arc::new(read(response.headers()));
        if let Some((key, allowed)) = kept {
            let holds = decisions::holds_for(response.headers(), allowed);
            if !holds.is_zero() {
                self.decisions.keep(key, Arc::clone(&decision), now + holds);
            }
        }
        // It has spoken; what it goes on to say may break off without harm.
        let _ = response.into_body().collect(IGNORED_BODY).await;
        Ok(Ok(decision))
    }

    /// A decision that was remembered is part of the request's trace all the same: nothing ran, and it says so.
    fn note_cached(&self, exchange: &Exchange, callee: &Callee) {
        let now = self.platform.clock().now();
        let mut attributes = Attributes::default();
        attributes.push("tangelo.cached", true);
        let span = Span {
            trace: exchange.trace.trace,
            id: self.platform.ids().span(),
            parent: exchange.trace.parent,
            name: callee.target.workload.shared().into(),
            kind: SpanKind::Internal,
            start: now,
            end: now,
            app: Some(callee.target.app.clone()),
            workload: Some(callee.target.workload.clone()),
            invocation: None,
            error: None,
            attributes,
            local_root: false,
        };
        let buffer = &exchange.trail.buffer;
        buffer.take_made(self.platform.telemetry(), span);
    }

    async fn call(
        &self,
        serving: &Serving,
        exchange: &Exchange,
        head: &Parts,
        callee: &Arc<Callee>,
        reserved: Option<Permit>,
    ) -> Result<Response<Body>, Error> {
        let dispatch = self.platform.dispatch();
        let permit = match reserved {
            Some(permit) => permit,
            None => dispatch
                .admit_within(callee, Class::Interactive)
                .map_err(|refused| refused.0)?,
        };
        let clock = self.platform.clock();
        let own = clock.monotonic() + callee.workload.timeout;
        let invocation = Invocation {
            id: self.platform.ids().invocation(clock),
            target: Arc::clone(&callee.target),
            trigger: Trigger::Before(Arc::clone(&serving.path)),
            class: Class::Interactive,
            principals: Vec::new(),
            trace: exchange.trace,
            deadline: own.min(exchange.deadline(serving.timeout)),
            depth: 0,
            idempotency_key: None,
            attempt: 1,
        };
        let request = head_only(head)?;
        dispatch
            .invoke_for(
                &exchange.trail.buffer,
                permit,
                invocation,
                Input::http(request),
            )
            .await
    }
}

/// A handler that returns `false` or nothing at all has not let a request pass.
fn says_nothing(callee: &Callee) -> Error {
    let name = &callee.target.workload;
    let message = format!(
        "`{name}` is asked before this route and did not say whether the request may pass: it must return a \
         `statusCode`, 200 for yes"
    );
    Error::new(code::BAD_REPLY, message)
}

/// The request without its body, and without what describes one.
fn head_only(head: &Parts) -> Result<Request<Body>, Error> {
    let mut request = Request::new(Body::Empty);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = origin_form(&head.uri)?;
    *request.headers_mut() = head.headers.clone();
    for name in [
        CONTENT_LENGTH,
        CONTENT_TYPE,
        CONTENT_ENCODING,
        TRANSFER_ENCODING,
        CONNECTION,
        UPGRADE,
    ] {
        request.headers_mut().remove(name);
    }
    Ok(request)
}

/// `uri` without scheme and authority.
pub(super) fn origin_form(uri: &Uri) -> Result<Uri, Error> {
    match uri.path_and_query() {
        Some(path) => Ok(Uri::from(path.clone())),
        None => Err(Error::new(code::BAD_REQUEST, "the request has no path")),
    }
}

fn read(headers: &HeaderMap) -> Decision {
    let added = headers.iter().filter(|(name, _)| is_addition(name));
    let principal = headers
        .get(headers::PRINCIPAL)
        .and_then(|value| value.to_str().ok());
    Decision {
        headers: added
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        principal: principal
            .filter(|name| !name.is_empty() && name.len() <= MAX_PRINCIPAL)
            .map(Arc::from),
    }
}

fn is_addition(name: &HeaderName) -> bool {
    let text = name.as_str();
    let platform = text.starts_with("x-forwarded-")
        || (text.starts_with("x-tangelo-") && *name != headers::PRINCIPAL);
    text.starts_with("x-") && !platform && !OWN.contains(&text)
}

fn apply(decision: &Decision, headers: &mut HeaderMap) {
    for (name, _) in &decision.headers {
        headers.remove(name);
    }
    for (name, value) in &decision.headers {
        headers.append(name, value.clone());
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_was_said_replaces_what_the_client_claims() {
        let said = HeaderMap::from_iter(
            [
                ("x-user", "ann"),
                ("x-tangelo-principal", "ann@shop"),
                ("x-tangelo-deadline-ms", "1"),
                ("x-forwarded-for", "9.9.9.9"),
                ("x-request-id", "mine"),
                ("content-type", "text/plain"),
            ]
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            }),
        );
        let decision = read(&said);
        assert_eq!(decision.principal.as_deref(), Some("ann@shop"));
        let mut headers = HeaderMap::new();
        headers.append("x-user", HeaderValue::from_static("root"));
        headers.append("x-user", HeaderValue::from_static("admin"));
        headers.append("x-forwarded-for", HeaderValue::from_static("1.1.1.1"));
        apply(&decision, &mut headers);
        let mut all: Vec<_> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.to_str().expect("is ASCII")))
            .collect();
        all.sort_unstable();
        let expected = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-tangelo-principal", "ann@shop"),
            ("x-user", "ann"),
        ];
        assert_eq!(all, expected);
    }
}
