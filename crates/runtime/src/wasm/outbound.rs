//! Requests that a guest sends: to names inside, in-process; outside, to what the manifest declares.
//!
//! A refusal is `HttpRequestDenied` for the guest and a log line that says what to add to the manifest.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, Request, Response, Uri, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use model::{Error, code};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::{
    Error as WasiError, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
    p2::bindings::http::types::ErrorCode, p3::bindings::http::types::ErrorCode as ErrorCode3,
};

use super::run::Run;
use crate::{
    body::{Body, BodyError},
    egress,
    host::{Caller, Working},
};

/// Names that end like this are the mesh's.
const INSIDE: &str = ".internal";
/// Requests of one guest under way at the same time, until the bodies of their responses have ended; what is beyond waits.
const UNDER_WAY: usize = 128;
/// Bytes that a guest may hand to a body at once.
const CHUNK: usize = 64 << 10;
/// How long connecting may take when the guest says nothing.
const CONNECT: Duration = Duration::from_secs(10);

/// What `send_request` gives: the response, and the connection's own work until its body has ended.
pub(super) type Sent = Result<(Response<WasiBody>, Driver), WasiError>;
/// The work that keeps a response coming.
pub(super) type Driver = Box<dyn Future<Output = Result<(), WasiError>> + Send>;

/// The hooks of one guest.
pub(super) struct Outbound {
    pub(super) run: Arc<Run>,
    /// Made by the first request that it sends.
    places: Option<Arc<Semaphore>>,
}

/// Where a request goes.
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

/// How long each step may take.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
}

impl Outbound {
    pub(super) fn new(run: &Arc<Run>) -> Self {
        Self {
            run: Arc::clone(run),
            places: None,
        }
    }
}

impl WasiHttpHooks for Outbound {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), WasiError>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let run = Arc::clone(&self.run);
        let places = self
            .places
            .get_or_insert_with(|| Arc::new(Semaphore::new(UNDER_WAY)));
        let place = Arc::clone(places).acquire_owned();
        Box::new(async move {
            let place = place.await.expect("the semaphore is never closed");
            let (response, driver) = send(&run, request, options.unwrap_or_default()).await?;
            let placed = |body| Placed {
                body,
                place: Some(place),
            };
            Ok((response.map(|body| placed(body).boxed_unsync()), driver))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        if error.is_incomplete_message() {
            return ErrorCode::ConnectionTerminated;
        }
        ErrorCode::HttpProtocolError
    }

    fn p2_error_from_connect(&mut self, _error: &std::io::Error) -> ErrorCode {
        ErrorCode::ConnectionRefused
    }

    fn p2_error_from_tls(&mut self, error: &std::io::Error) -> ErrorCode {
        if is_bad_certificate(error) {
            return ErrorCode::TlsCertificateError;
        }
        ErrorCode::TlsProtocolError
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p3_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode3 {
        if error.is_incomplete_message() {
            return ErrorCode3::ConnectionTerminated;
        }
        ErrorCode3::HttpProtocolError
    }

    fn p3_error_from_connect(&mut self, _error: &std::io::Error) -> ErrorCode3 {
        ErrorCode3::ConnectionRefused
    }

    fn p3_error_from_tls(&mut self, error: &std::io::Error) -> ErrorCode3 {
        if is_bad_certificate(error) {
            return ErrorCode3::TlsCertificateError;
        }
        ErrorCode3::TlsProtocolError
    }
}

fn is_bad_certificate(error: &std::io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

/// Headers that belong to a connection, not to a guest (RFC 9110 §7.6.1), and `host`, which follows from the URI.
fn is_forbidden(name: &HeaderName) -> bool {
    const OTHERS: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];
    matches!(
        *name,
        header::CONNECTION
            | header::HOST
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || OTHERS.contains(&name.as_str())
}

async fn send(run: &Arc<Run>, request: Request<WasiBody>, options: RequestOptions) -> Sent {
    let destination = destination(request.uri())?;
    let left = run.left();
    let patience = Patience {
        connect: options.connect_timeout.unwrap_or(CONNECT).min(left),
        first_byte: options.first_byte_timeout.unwrap_or(left).min(left),
    };
    let pause = options.between_bytes_timeout;
    let is_inside =
        destination.host.ends_with(INSIDE) || run.pool.spec.hosts.contains(&destination.host);
    let (response, driver) = if is_inside {
        inside(run, request, patience).await?
    } else {
        outside(run, request, &destination, patience).await?
    };
    let response = match pause {
        Some(pause) => response.map(|body| Paced::new(body, pause).boxed_unsync()),
        None => response,
    };
    Ok((response, driver))
}

fn destination(uri: &Uri) -> Result<Destination, WasiError> {
    let authority = uri.authority().ok_or(WasiError::HttpRequestUriInvalid)?;
    let host = egress::normal(authority.host());
    if host.is_empty() || authority.as_str().contains('@') {
        return Err(WasiError::HttpRequestUriInvalid);
    }
    let tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Ok(Destination { host, port, tls })
}

async fn inside(run: &Arc<Run>, request: Request<WasiBody>, patience: Patience) -> Sent {
    let caller = Caller {
        presence: Arc::clone(&run.pool.presence),
        working: Some(Working(Arc::clone(&run.invocation))),
    };
    let request = request.map(|body| Body::stream(body.map_err(|e| from_guest(&e))));
    let answer = run.pool.ctx.host.call(caller, request);
    let response = tokio::time::timeout(patience.first_byte, answer)
        .await
        .map_err(|_| WasiError::ConnectionReadTimeout)?;
    let response = response.map(|body| body.map_err(|e| to_guest(&e)).boxed_unsync());
    Ok((response, Box::new(async { Ok(()) })))
}

async fn outside(
    run: &Arc<Run>,
    request: Request<WasiBody>,
    to: &Destination,
    patience: Patience,
) -> Sent {
    let rules = &run.pool.spec.workload.egress;
    if !egress::permits(rules, &to.host, to.port) {
        return Err(denied(
            run,
            to,
            &format!("it is not declared; {}", egress::advice(&to.host, to.port)),
        ));
    }
    let addresses = super::dial::resolve(to, patience.connect).await?;
    let (allowed, refused): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| egress::may_dial(rules, address.ip(), to.port));
    match (allowed.is_empty(), refused.first()) {
        (false, _) => {
            run.pool
                .engine
                .dialer
                .send(request, to, &allowed, patience)
                .await
        }
        (true, Some(address)) => {
            let ip = address.ip().to_string();
            let why = format!(
                "it resolves to {ip}, which is not on the public Internet; {}",
                egress::advice(&ip, to.port)
            );
            Err(denied(run, to, &why))
        }
        (true, None) => Err(WasiError::DnsError {
            rcode: Some("no address".to_owned()),
            info_code: None,
        }),
    }
}

fn denied(run: &Run, to: &Destination, why: &str) -> WasiError {
    let error = Error::new(
        code::EGRESS_NOT_DECLARED,
        format!(
            "`{}` may not reach {}:{}: {why}",
            run.invocation.target, to.host, to.port
        ),
    );
    run.say(error.to_string());
    WasiError::HttpRequestDenied
}

/// What the platform sees of a guest's body that failed.
fn from_guest(error: &WasiError) -> BodyError {
    let message = "the caller abandoned the body of its request";
    BodyError::Workload(Error::new(code::BAD_REQUEST, message).context(error))
}

/// What a guest sees of a body that failed.
pub(super) fn to_guest(error: &BodyError) -> WasiError {
    match error {
        BodyError::Connection(_) => WasiError::ConnectionTerminated,
        BodyError::TooLarge(limit) => WasiError::HttpRequestBodySize(Some(limit.0)),
        BodyError::Idle => WasiError::ConnectionReadTimeout,
        BodyError::Workload(_) => WasiError::HttpResponseIncomplete,
    }
}

/// The body of a response, which counts as under way until it has ended.
struct Placed {
    body: WasiBody,
    place: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Placed {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.place = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that fails when it pauses for too long.
struct Paced {
    body: WasiBody,
    pause: Duration,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl Paced {
    #[allow(
        clippy::disallowed_methods,
        reason = "a timeout around real I/O, asked for by the guest"
    )]
    fn new(body: WasiBody, pause: Duration) -> Self {
        Self {
            body,
            pause,
            timer: Box::pin(tokio::time::sleep(pause)),
        }
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let next = self.timer.deadline().max(tokio::time::Instant::now()) + self.pause;
            self.timer.as_mut().reset(next);
            return Poll::Ready(frame);
        }
        self.timer
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err(WasiError::ConnectionReadTimeout)))
    }
}
