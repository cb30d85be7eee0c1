//! One connection: which protocol it speaks, its requests, its timeouts, and its end when the server drains.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http::{HeaderValue, Request, header::CONNECTION};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    ConnectionLimits, Front, Link, Order,
    framing::Framing,
    stream::Stream,
    wire::{Watched, Wire},
};
use crate::{answer::Answer, authority::Ambiguous, refusal::LastWord};

/// Header lines of a request, unless the settings say otherwise: as many as hyper has room for without allocating.
pub(super) const HEADERS: usize = 100;

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection to its end.
pub(super) async fn serve<F: Front>(
    (stream, tls): (TcpStream, Option<TlsAcceptor>),
    link: Link,
    limits: &ConnectionLimits,
    front: Arc<F>,
    mut order: watch::Receiver<Order>,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let wire = Wire::new(limits);
    let first = timeout(limits.head, begin(stream, tls));
    let (stream, sniffed, is_http2) = tokio::select! {
        biased;
        begun = first => begun.map_err(|_| ConnectionError::Silent)??,
        // Browsers connect before they have anything to ask: a server that drains does not wait for that.
        _ = order.wait_for(|order| *order != Order::Serve) => return Ok(()),
    };
    let framing = (!is_http2).then(|| Framing::new(limits.head_bytes));
    let watched = Watched::new(stream, sniffed, framing, Arc::clone(&wire));
    let service = {
        let wire = Arc::clone(&wire);
        service_fn(move |mut request: Request<Incoming>| {
            let (front, link, busy) = (Arc::clone(&front), link.clone(), wire.begin());
            if let Some(why) = wire.refuses() {
                request.extensions_mut().insert(Ambiguous(why));
            }
            async move {
                let mut response = front.answer(link, request).await;
                if response.extensions().get::<LastWord>().is_some() && !is_http2 {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                Ok::<_, Infallible>(response.map(|answer| answer.on_wire(busy)))
            }
        })
    };
    if is_http2 {
        wire.speaks_http2();
        let connection = h2(limits).serve_connection(watched, service);
        drive(pin!(connection), &wire, limits.head, order).await
    } else {
        let connection = h1(limits)
            .serve_connection(watched, service)
            .with_upgrades();
        drive(pin!(connection), &wire, limits.head, order).await
    }
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// The socket failed.
    #[error("the socket failed")]
    Socket(#[from] io::Error),
    /// What came was no HTTP, or the client went away in mid-request.
    #[error("the protocol failed")]
    Protocol(#[from] hyper::Error),
    /// Nothing happened for longer than allowed.
    #[error("nothing happened for longer than allowed")]
    Silent,
}

/// The connection's bytes, those of them that were read to tell which HTTP is spoken, and whether it is HTTP/2: over
/// TLS the handshake has agreed on that (RFC 7301), in clear text it shows.
async fn begin(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<(Stream, Vec<u8>, bool)> {
    let Some(tls) = tls else {
        let sniffed = sniff(&stream).await?;
        let is_http2 = sniffed == PREFACE;
        return Ok((Stream::Plain(stream), sniffed, is_http2));
    };
    let stream = tls.accept(stream).await?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Stream::Tls(Box::new(stream)), Vec::new(), is_http2))
}

/// Reads until it is certain whether the client begins with HTTP/2's preface; gives back what was read.
async fn sniff(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = [0; PREFACE.len()];
    let mut have = 0;
    loop {
        stream.readable().await?;
        match stream.try_read(&mut bytes[have..]) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if bytes[..have] != PREFACE[..have] || have == PREFACE.len() {
            break;
        }
    }
    Ok(bytes[..have].to_vec())
}

fn h1(limits: &ConnectionLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    // Ours covers the same without a timer per request, and lets idle connections live longer than a slow head.
    builder.header_read_timeout(None);
    builder.max_buf_size(limits.head_bytes.max(8192));
    if limits.headers != HEADERS {
        builder.max_headers(limits.headers);
    }
    builder
}

fn h2(limits: &ConnectionLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new());
    builder.max_concurrent_streams(limits.streams);
    builder.max_pending_accept_reset_streams(limits.resets);
    builder.max_local_error_reset_streams(limits.resets);
    builder.max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX));
    builder.max_send_buf_size(64 << 10);
    builder.initial_stream_window_size(256 << 10);
    builder.initial_connection_window_size(1 << 20);
    builder.keep_alive_interval(Duration::from_secs(30));
    builder.keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// A connection that can be asked to end after the requests that it has.
trait Drains: Future<Output = Result<(), hyper::Error>> {
    fn drain(self: Pin<&mut Self>);
}

impl<S> Drains for http1::UpgradeableConnection<Watched, S>
where
    S: HttpService<Incoming, ResBody = Answer, Error = Infallible>,
{
    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S> Drains for http2::Connection<Watched, S, TokioExecutor>
where
    S: HttpService<Incoming, ResBody = Answer, Error = Infallible>,
    S::Future: Send + 'static,
{
    fn drain(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn drive(
    mut connection: Pin<&mut impl Drains>,
    wire: &Wire,
    tick: Duration,
    mut order: watch::Receiver<Order>,
) -> Result<(), ConnectionError> {
    let seen = order.clone();
    let mut draining = Some(Box::pin(async move {
        let _ = order.wait_for(|order| *order != Order::Serve).await;
    }));
    let mut alarm = pin!(sleep_until(
        wire.due().unwrap_or_else(|| Instant::now() + tick)
    ));
    // Both wake this task, which stays the same, and need to be polled again only when they have something to say.
    let mut watched = false;
    poll_fn(|cx| {
        let ordered = !watched || seen.has_changed().unwrap_or(true);
        if let Some(drained) = draining.as_mut().filter(|_| ordered)
            && drained.as_mut().poll(cx).is_ready()
        {
            draining = None;
            connection.as_mut().drain();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended.map_err(ConnectionError::from));
        }
        let armed = std::mem::replace(&mut watched, true);
        poll_alarm(alarm.as_mut(), armed, wire, tick, cx)
    })
    .await
}

/// Ready when the connection's time is up. The alarm only moves when it goes off or must go off earlier, so that
/// a busy connection costs no timer operations. `armed`: it was polled before.
fn poll_alarm(
    mut alarm: Pin<&mut Sleep>,
    armed: bool,
    wire: &Wire,
    tick: Duration,
    cx: &mut std::task::Context<'_>,
) -> Poll<Result<(), ConnectionError>> {
    if let Some(due) = wire.due().filter(|due| *due < alarm.deadline()) {
        alarm.as_mut().reset(due);
    }
    if armed && !alarm.is_elapsed() {
        return Poll::Pending;
    }
    while alarm.as_mut().poll(cx).is_ready() {
        let now = Instant::now();
        match wire.due() {
            Some(due) if due <= now => return Poll::Ready(Err(ConnectionError::Silent)),
            Some(due) => alarm.as_mut().reset(due),
            None => alarm.as_mut().reset(now + tick),
        }
    }
    Poll::Pending
}
