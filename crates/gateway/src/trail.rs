//! The gateway's own span: the root of a request's trace here, recorded once, when the answer's last byte is out,
//! its body broke, the joined connection closed, or the client went away.

use std::{borrow::Cow, sync::Arc};

use http::{Method, StatusCode};
use model::{AppName, Clock, InvocationId, SpanId, Time, TraceContext};
use platform::{
    BodyError,
    telemetry::{AttrValue, Attributes, Span, SpanKind, Telemetry},
};

/// Bytes of a path that are kept.
const MAX_PATH: usize = 256;

/// A span that has not ended.
pub(crate) struct Trail {
    telemetry: Telemetry,
    clock: Clock,
    trace: TraceContext,
    id: SpanId,
    start: Time,
    method: Method,
    path: Box<str>,
    /// What is known once the route is.
    pub(crate) route: Option<(AppName, Arc<str>)>,
    /// What is known once there is one.
    pub(crate) invocation: Option<InvocationId>,
    /// What is known once there is an answer.
    pub(crate) status: Option<StatusCode>,
    /// Why there was none.
    pub(crate) error: Option<String>,
    ended: bool,
}

impl Trail {
    /// The span `id` of a request that arrived now.
    pub(crate) fn begin(
        telemetry: &Telemetry,
        clock: &Clock,
        trace: TraceContext,
        id: SpanId,
        method: &Method,
        path: &str,
    ) -> Box<Self> {
        let end = path.floor_char_boundary(MAX_PATH);
        Box::new(Self {
            telemetry: telemetry.clone(),
            clock: clock.clone(),
            trace,
            id,
            start: clock.now(),
            method: method.clone(),
            path: path[..end].into(),
            route: None,
            invocation: None,
            status: None,
            error: None,
            ended: false,
        })
    }

    /// The answer is out.
    pub(crate) fn end(mut self: Box<Self>) {
        self.ended = true;
    }

    /// The answer broke off.
    pub(crate) fn broken(mut self: Box<Self>, error: &BodyError) {
        self.ended = true;
        self.error = Some(format!("the answer broke off: {error}"));
    }

    fn attributes(&self) -> Attributes {
        let mut all = Attributes::with_room();
        all.push("http.request.method", method_value(&self.method));
        all.push("url.path", self.path.to_string());
        if let Some((_, route)) = &self.route {
            all.push("http.route", route.to_string());
        }
        if let Some(status) = self.status {
            all.push("http.response.status_code", i64::from(status.as_u16()));
        }
        all
    }

    fn name(&self) -> Cow<'static, str> {
        match &self.route {
            Some((_, route)) => Cow::Owned(format!("{} {route}", self.method)),
            None => Cow::Borrowed("no route"),
        }
    }

    fn error(&mut self) -> Option<String> {
        let failed = self
            .status
            .filter(StatusCode::is_server_error)
            .map(|s| format!("answered {}", s.as_u16()));
        let gone = (!self.ended).then(|| "the client went away".to_owned());
        self.error.take().or(failed).or(gone)
    }
}

/// Methods are few; whatever else a client makes up is one of them.
fn method_value(method: &Method) -> AttrValue {
    let known = [
        ("GET", &Method::GET),
        ("HEAD", &Method::HEAD),
        ("POST", &Method::POST),
        ("PUT", &Method::PUT),
        ("PATCH", &Method::PATCH),
        ("DELETE", &Method::DELETE),
        ("OPTIONS", &Method::OPTIONS),
        ("TRACE", &Method::TRACE),
        ("CONNECT", &Method::CONNECT),
    ];
    known
        .into_iter()
        .find(|(_, k)| *k == method)
        .map_or("_OTHER", |(name, _)| name)
        .into()
}

impl Drop for Trail {
    fn drop(&mut self) {
        let error = self.error();
        self.telemetry.span(Span {
            trace: self.trace.trace,
            id: self.id,
            parent: self.trace.parent,
            name: self.name(),
            kind: SpanKind::Server,
            start: self.start,
            end: self.clock.now(),
            app: self.route.as_ref().map(|(app, _)| app.clone()),
            workload: None,
            invocation: self.invocation,
            error,
            attributes: self.attributes(),
            local_root: true,
        });
    }
}
