//! Calls between workloads: who may call whom, in which trace and until when. The same for both tiers, whether a call
//! comes over the mesh's socket or out of a Wasm guest in-process.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::{HeaderMap, Request, Response, Uri};
use model::{
    Class, Clock, Error, Ids, Invocation, Principal, Select, Target, TraceContext, Trigger, code,
};
use runtime::{
    Body, Caller, Input, Presence,
    http_input::{TRACEPARENT, XRAY, find},
};
use telemetry::{Attributes, Span, SpanKind, Telemetry};

use crate::{
    apps::Apps,
    dispatch::Dispatch,
    events::{Events, Origin},
    keyvalue::KeyValue,
    problem,
    streams::Streams,
    versions::{Known, Versions},
};

/// Serves calls of workloads. Cheap to clone.
#[derive(Clone)]
pub struct Mesh {
    pub(crate) apps: Arc<Apps>,
    pub(crate) versions: Versions,
    pub(crate) dispatch: Dispatch,
    pub(crate) events: Events,
    pub(crate) inbox: store::inbox::Inbox,
    pub(crate) keyvalue: KeyValue,
    pub(crate) streams: Streams,
    pub(crate) telemetry: Telemetry,
    pub(crate) tokens: Arc<access::MeshTokens<Presence>>,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
}

impl Mesh {
    /// The instance that `token` was given to.
    #[must_use]
    pub fn presence(&self, token: &str) -> Option<Arc<Presence>> {
        self.tokens.find(token)
    }

    /// Serves `/w/NAME/…`, `/events`, `/inbox/KEY`, `/projections/NAME`, `/kv/…`, `/streams/…` and `/otlp/…` (origin form, the token already taken off).
    pub async fn serve(&self, caller: Caller, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        if path == "/events" || path == "/events/" {
            let trace = self.trace(&caller, request.headers());
            return self
                .events
                .publish_http(Origin::Workload(caller, trace), request)
                .await
                .unwrap_or_else(|error| problem::response(&error, None));
        }
        if path.starts_with("/inbox/") {
            return crate::inbox::serve(&self.inbox, &caller, request)
                .await
                .unwrap_or_else(|error| problem::response(&error, None));
        }
        if path.starts_with("/projections/") {
            return crate::projections::serve(self, &caller, request)
                .await
                .unwrap_or_else(|error| problem::response(&error, None));
        }
        if let Some(rest) = path.strip_prefix("/kv")
            && (rest.is_empty() || rest.starts_with('/'))
        {
            let rest = rest.to_owned();
            return self.keyvalue.serve(&caller.presence, &rest, request).await;
        }
        if let Some(rest) = path.strip_prefix("/streams")
            && (rest.is_empty() || rest.starts_with('/'))
        {
            let (rest, trace) = (rest.to_owned(), self.trace(&caller, request.headers()));
            return self.streams.serve(&caller, trace, &rest, request).await;
        }
        if let Some(signal) = path.strip_prefix("/otlp/") {
            let signal = signal.to_owned();
            return self.ingest(&caller.presence, &signal, request).await;
        }
        match split_name(request.uri()) {
            Some((name, rest)) => self.call(&caller, &name, rest, request).await,
            None => {
                let message = format!(
                    "the mesh has no `{path}`: there are /w/NAME/…, /events, /inbox/KEY, /projections/NAME, /kv/BUCKET/KEY, /streams/SUBJECT and /otlp/v1/traces"
                );
                problem::response(&Error::new(code::NO_SUCH_WORKLOAD, message), None)
            }
        }
    }

    /// Serves a request to a host name: `orders.internal`, `events.internal`, `inbox.internal`, `projections.internal`,
    /// `kv.internal`, `streams.internal`, or a name in the app's `hosts:`.
    pub async fn serve_host(
        &self,
        caller: Caller,
        host: &str,
        request: Request<Body>,
    ) -> Response<Body> {
        let known = match self.versions.get(caller.presence.version) {
            Ok(known) => known,
            Err(error) => return problem::response(&error, None),
        };
        let rest = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let name = match known.hosts.get(host) {
            Some(name) => name.to_string(),
            None => match host.strip_suffix(".internal") {
                Some(name) => name.to_owned(),
                None => return problem::response(&not_inside(host), None),
            },
        };
        let path = match name.as_str() {
            "events" => "/events".to_owned(),
            "inbox" => format!("/inbox{rest}"),
            "projections" => format!("/projections{rest}"),
            "streams" => format!("/streams{rest}"),
            "kv" => format!("/kv{rest}"),
            name => format!("/w/{name}{rest}"),
        };
        match path.parse::<Uri>() {
            Ok(uri) => {
                let (mut head, body) = request.into_parts();
                head.uri = uri;
                self.serve(caller, Request::from_parts(head, body)).await
            }
            Err(error) => {
                let error =
                    Error::new(code::BAD_REQUEST, format!("`{path}` is no path")).context(error);
                problem::response(&error, None)
            }
        }
    }

    async fn call(
        &self,
        caller: &Caller,
        name: &str,
        rest: Uri,
        request: Request<Body>,
    ) -> Response<Body> {
        let trace = self.trace(caller, request.headers());
        let span = self.ids.span();
        let started = self.clock.now();
        let (mut head, body) = request.into_parts();
        head.uri = rest;
        let result = self
            .invoke(
                caller,
                name,
                trace.below(span),
                Request::from_parts(head, body),
            )
            .await;
        self.telemetry.span(Span {
            trace: trace.trace,
            id: span,
            parent: trace.parent,
            name: format!("call {name}").into(),
            kind: SpanKind::Client,
            start: started,
            end: self.clock.now(),
            app: Some(caller.presence.app.clone()),
            workload: Some(caller.presence.workload.clone()),
            invocation: caller.working.as_ref().map(|w| w.0.id),
            error: result.as_ref().err().map(ToString::to_string),
            attributes: Attributes::default(),
            local_root: trace.parent.is_none(),
        });
        result.unwrap_or_else(|error| problem::response(&error, None))
    }

    async fn invoke(
        &self,
        caller: &Caller,
        name: &str,
        trace: TraceContext,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let known = self.versions.get(caller.presence.version)?;
        let callee = self.apps.resolve(&target(caller, &known, name)?)?;
        let permit = self
            .dispatch
            .admit_within(&callee, Class::Interactive)
            .map_err(|refused| refused.0)?;
        let deadline = self.deadline(caller, callee.workload.timeout);
        let invocation = Invocation {
            id: self.ids.invocation(&self.clock),
            target: Arc::clone(&callee.target),
            trigger: Trigger::Mesh(caller_name(&caller.presence).into()),
            class: caller
                .working
                .as_ref()
                .map_or(Class::Interactive, |w| w.0.class),
            principals: principals(caller),
            trace,
            deadline,
            depth: caller.working.as_ref().map_or(1, |w| w.0.depth + 1),
            idempotency_key: idempotency_key(request.headers()),
            attempt: 1,
        };
        self.dispatch
            .invoke(permit, invocation, Input::http(request))
            .await
    }

    /// The callee's own timeout, but never longer than what the caller has left.
    fn deadline(&self, caller: &Caller, timeout: Duration) -> std::time::Instant {
        let own = self.clock.monotonic() + timeout;
        caller
            .working
            .as_ref()
            .map_or(own, |w| own.min(w.0.deadline))
    }

    /// The trace that a call belongs to: what the caller works on, refined by a span that it named in `traceparent`;
    /// else its header; else a new one. The segments that X-Ray's SDK names in AWS's header go to a daemon of AWS and
    /// never come here: under one of them a call would hang in the air.
    fn trace(&self, caller: &Caller, headers: &HeaderMap) -> TraceContext {
        let refines = |working: &TraceContext| {
            from_traceparent(headers)
                .filter(|said| said.trace == working.trace && said.parent.is_some())
        };
        match (&caller.working, from_headers(headers)) {
            (Some(working), _) => refines(&working.0.trace).unwrap_or(working.0.trace),
            (None, Some(said)) => said,
            (None, None) => TraceContext::root(self.ids.random()),
        }
    }

    async fn ingest(
        &self,
        presence: &Presence,
        signal: &str,
        request: Request<Body>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let sender = telemetry::otlp::Sender {
            app: presence.app.clone(),
            workload: presence.workload.clone(),
        };
        let buffers = self.dispatch.buffers();
        let headers = &head.headers;
        crate::otlp::ingest(
            &self.telemetry,
            buffers,
            Some(&sender),
            signal,
            headers,
            body,
        )
        .await
    }
}

fn target(caller: &Caller, known: &Known, name: &str) -> Result<Target, Error> {
    let (app, workload) = known.may_call(name)?;
    Ok(Target {
        namespace: caller.presence.namespace.clone(),
        app,
        workload,
        select: Select::Live,
    })
}

/// `/w/orders/a?b` → `orders` and `/a?b`; `/w/app~orders/a` names a workload of another app.
fn split_name(uri: &Uri) -> Option<(String, Uri)> {
    let rest = uri.path_and_query()?.as_str().strip_prefix("/w/")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let rest = if rest.starts_with('/') {
        Cow::Borrowed(rest)
    } else {
        Cow::Owned(format!("/{rest}"))
    };
    Some((name.replacen('~', "/", 1), rest.parse().ok()?))
}

fn not_inside(host: &str) -> Error {
    let message = format!(
        "`{host}` is no workload: the mesh serves `NAME.internal` and the names under `hosts:`; \
         for hosts outside declare `egress:`"
    );
    Error::new(code::EGRESS_NOT_DECLARED, message)
}

fn caller_name(presence: &Presence) -> String {
    format!("{}/{}", presence.app, presence.workload)
}

fn principals(caller: &Caller) -> Vec<Principal> {
    let mut chain = caller
        .working
        .as_ref()
        .map(|w| w.0.principals.clone())
        .unwrap_or_default();
    chain.push(Principal::Workload(caller_name(&caller.presence).into()));
    chain
}

fn idempotency_key(headers: &HeaderMap) -> Option<Arc<str>> {
    headers
        .get("idempotency-key")
        .and_then(|v| v.to_str().ok())
        .map(Arc::from)
}

/// `traceparent`, or AWS's header when there is none.
#[must_use]
pub fn from_headers(headers: &HeaderMap) -> Option<TraceContext> {
    let xray = || TraceContext::from_xray(find(headers, &XRAY)?.to_str().ok()?);
    from_traceparent(headers).or_else(xray)
}

fn from_traceparent(headers: &HeaderMap) -> Option<TraceContext> {
    TraceContext::from_traceparent(find(headers, &TRACEPARENT)?.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_off_paths() {
        let check = |path: &str, name: &str, rest: &str| {
            let uri: Uri = path.parse().expect("is a path");
            let split = split_name(&uri).map(|(name, rest)| (name, rest.to_string()));
            assert_eq!(split, Some((name.to_owned(), rest.to_owned())), "{path}");
        };
        check("/w/orders", "orders", "/");
        check("/w/orders?x=1", "orders", "/?x=1");
        check("/w/orders/a/b%20c?x=/y", "orders", "/a/b%20c?x=/y");
        check("/w/shop~orders/a", "shop/orders", "/a");
        assert_eq!(split_name(&"/x/orders".parse().expect("is a path")), None);
    }
}
