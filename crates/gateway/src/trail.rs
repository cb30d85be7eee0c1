//! The gateway's own span: the root of a request's trace here, recorded once, when the answer's last byte is out,
//! its body broke, the joined connection closed, or the client went away.

use std::sync::{Arc, OnceLock};

use http::{Method, StatusCode};
use model::{AppName, Clock, InvocationId, SpanId, Time, TraceContext};
use platform::{
    BodyError,
    telemetry::{Attributes, Gate, Root, Span, SpanBuffer, SpanKind, Telemetry, Text},
};

/// Bytes of a path that are kept.
const MAX_PATH: usize = 256;

/// Methods are few; whatever else a client makes up is one of them.
const METHODS: [(&str, Method); 9] = [
    ("GET", Method::GET),
    ("HEAD", Method::HEAD),
    ("POST", Method::POST),
    ("PUT", Method::PUT),
    ("PATCH", Method::PATCH),
    ("DELETE", Method::DELETE),
    ("OPTIONS", Method::OPTIONS),
    ("TRACE", Method::TRACE),
    ("CONNECT", Method::CONNECT),
];
/// OpenTelemetry's word for such a one.
const OTHER: &str = "_OTHER";

fn known(method: &Method) -> Option<usize> {
    METHODS.iter().position(|(_, known)| known == method)
}

/// What the spans of a route have in common, made once.
pub(crate) struct Routed {
    app: AppName,
    path: Arc<str>,
    /// What decides early about their traces.
    gate: OnceLock<Arc<Gate>>,
    /// The spans' names, by method.
    names: [OnceLock<Arc<str>>; METHODS.len()],
}

impl Routed {
    /// The route `path` of `app`.
    pub(crate) fn new(app: AppName, path: Arc<str>) -> Self {
        Self {
            app,
            path,
            gate: OnceLock::new(),
            names: Default::default(),
        }
    }

    fn gate(&self, telemetry: &Telemetry) -> &Gate {
        self.gate.get_or_init(|| telemetry.gate(&self.path))
    }

    fn name(&self, method: &Method) -> Text {
        let named = || format!("{method} {}", self.path);
        match known(method) {
            Some(known) => {
                let name = self.names[known].get_or_init(|| named().into());
                Text::Shared(Arc::clone(name))
            }
            None => Text::from(named()),
        }
    }
}

/// A span that has not ended.
pub(crate) struct Trail {
    telemetry: Telemetry,
    clock: Clock,
    /// Where the spans of what serves it wait.
    pub(crate) buffer: Arc<SpanBuffer>,
    trace: TraceContext,
    id: SpanId,
    start: Time,
    method: Method,
    path: Box<str>,
    /// What is known once the route is.
    pub(crate) route: Option<Arc<Routed>>,
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
            buffer: Arc::default(),
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
    pub(crate) fn end(mut self) {
        self.ended = true;
    }

    /// The answer broke off.
    pub(crate) fn broken(mut self, error: &BodyError) {
        self.ended = true;
        self.error = Some(format!("the answer broke off: {error}"));
    }

    fn span(&self, root: Root, error: Option<String>) -> Span {
        let route = self.route.as_deref();
        Span {
            trace: root.trace,
            id: self.id,
            parent: self.trace.parent,
            name: route.map_or_else(|| self.unrouted(), |routed| routed.name(&self.method)),
            kind: SpanKind::Server,
            start: root.start,
            end: root.end,
            app: route.map(|routed| routed.app.clone()),
            workload: None,
            invocation: self.invocation,
            error,
            attributes: self.attributes(),
            local_root: true,
        }
    }

    /// What a request is called that no route took: the gateway answers some itself.
    fn unrouted(&self) -> Text {
        let method = known(&self.method).map_or(OTHER, |known| METHODS[known].0);
        Text::Fixed(match self.status {
            None | Some(StatusCode::NOT_FOUND) => "no route",
            Some(_) => method,
        })
    }

    fn attributes(&self) -> Attributes {
        let mut all = Attributes::with_room(4);
        all.push(
            "http.request.method",
            known(&self.method).map_or(OTHER, |known| METHODS[known].0),
        );
        all.push("url.path", Text::Own(self.path.clone()));
        if let Some(routed) = &self.route {
            all.push("http.route", Arc::clone(&routed.path));
        }
        if let Some(status) = self.status {
            all.push("http.response.status_code", i64::from(status.as_u16()));
        }
        all
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

impl Drop for Trail {
    fn drop(&mut self) {
        let error = self.error();
        let root = Root {
            trace: self.trace.trace,
            start: self.start,
            end: self.clock.now(),
            failed: error.is_some(),
            of_client: self.trace.parent.is_some() && self.trace.sampled,
        };
        let gate = self.route.as_ref().map(|route| route.gate(&self.telemetry));
        let make = || self.span(root, error);
        self.telemetry.root(gate, &self.buffer, root, make);
    }
}
