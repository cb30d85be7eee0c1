//! The TCP listener under the control port and the port for spans: bounded connections, heads that must come in time, and
//! bodies that must come at all.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, middleware::map_request};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::{server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use model::Limits;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, Sleep, sleep, timeout},
};

/// Connections to one port at the same time; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;

/// The most that is buffered of a connection in each direction, in bytes.
const BUFFER: usize = 64 << 10;

/// The slowest that a body may come once it has had the time of a silence, in bytes per second: otherwise a client that
/// sends a byte now and then would be waited for without end.
const SLOWEST: u64 = 1 << 10;

/// What clients of a port are held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    head: Duration,
    body: Duration,
}

impl Patience {
    /// As `limits` have it.
    pub(crate) const fn of(limits: &Limits) -> Self {
        Self {
            head: limits.head_timeout,
            body: limits.body_idle,
        }
    }
}

/// Serves until `stop` turns true; requests under way finish.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    patience: Patience,
    mut stop: watch::Receiver<bool>,
) {
    let bounded = router.layer(map_request(move |request: Request| async move {
        request.map(|body| Body::new(Slow::new(body, patience.body)))
    }));
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        if let Some((stream, place)) = accepted {
            let connection = connection(stream, bounded.clone(), patience, &graceful);
            tokio::spawn(async move {
                connection.await;
                drop(place);
            });
        }
    }
    graceful.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept connections for now");
            pause(Duration::from_millis(50)).await;
            None
        }
    }
}

/// One connection to its end. hyper bounds the heads after the first; that of the first it waits for as long as no byte
/// has come.
fn connection(
    stream: TcpStream,
    router: Router,
    patience: Patience,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + use<> {
    let asked = Arc::new(AtomicBool::new(false));
    let inner = TowerToHyperService::new(router);
    let service = {
        let asked = Arc::clone(&asked);
        hyper::service::service_fn(move |request| {
            asked.store(true, Relaxed);
            inner.call(request)
        })
    };
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .max_buf_size(BUFFER)
        .header_read_timeout(patience.head);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let served = graceful.watch(connection);
    async move {
        let mut served = std::pin::pin!(served);
        let ended = match timeout(patience.head, &mut served).await {
            Ok(ended) => ended,
            Err(_) if !asked.load(Relaxed) => return,
            Err(_) => served.await,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the control plane ended early");
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a timeout around real I/O, which no virtual clock should skip"
)]
fn pause(time: Duration) -> Sleep {
    sleep(time)
}

/// A body that must go on coming.
struct Slow {
    inner: Body,
    began: Instant,
    grace: Duration,
    bytes: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
#[error("the request's body did not come in time")]
struct TooSlow;

impl Slow {
    fn new(inner: Body, grace: Duration) -> Self {
        Self {
            inner,
            began: Instant::now(),
            grace,
            bytes: 0,
            timer: None,
        }
    }

    /// When what has come so far is too little, or nothing has come for too long.
    fn due(&self, now: Instant) -> Instant {
        let earned = Duration::from_secs(self.bytes / SLOWEST);
        (self.began + self.grace + earned).min(now + self.grace)
    }
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame {
                this.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
            this.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let now = Instant::now();
        let due = this.due(now);
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(pause(due.saturating_duration_since(now))));
        std::task::ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Patience = Patience {
        head: Duration::from_millis(200),
        body: Duration::from_millis(200),
    };

    async fn open() -> (std::net::SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("is bound");
        let router = Router::new().route("/", post(|body: String| async move { body }));
        let stop = watch::Sender::new(false);
        tokio::spawn(serve(listener, router, SHORT, stop.subscribe()));
        (address, stop)
    }

    /// What comes after `wire` was sent, until the other side closes.
    async fn rest(address: std::net::SocketAddr, wire: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(wire.as_bytes()).await.expect("it is open");
        let mut all = String::new();
        let read = timeout(Duration::from_secs(20), stream.read_to_string(&mut all));
        let _ = read.await.expect("it closes");
        all
    }

    #[tokio::test]
    async fn heads_that_do_not_come_end_the_connection() {
        let (address, _stop) = open().await;
        let whole = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        for wire in ["", "P", "POST / HTTP/1.1\r\nHost: a"] {
            assert_eq!(rest(address, wire).await, "", "{wire:?}");
            let behind = rest(address, &format!("{whole}{wire}")).await;
            assert!(behind.ends_with("\r\n\r\nhi"), "{wire:?}: {behind}");
        }
    }

    #[tokio::test]
    async fn bodies_that_do_not_come_are_refused() {
        let (address, _stop) = open().await;
        for wire in [
            "Content-Length: 9\r\n\r\nhi",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        ] {
            let all = rest(address, &format!("POST / HTTP/1.1\r\nHost: a\r\n{wire}")).await;
            assert!(all.starts_with("HTTP/1.1 400 "), "{wire:?}: {all}");
        }
    }

    #[tokio::test]
    async fn a_body_earns_its_time_by_what_comes() {
        let mut slow = Slow::new(Body::empty(), Duration::from_secs(60));
        let later = |seconds| slow.began + Duration::from_secs(seconds);
        assert_eq!(slow.due(later(50)), later(60), "nothing has come");
        let (soon, late) = (later(61), later(121));
        slow.bytes = 10 * SLOWEST;
        assert_eq!(slow.due(soon), slow.began + Duration::from_secs(70));
        slow.bytes = 1000 * SLOWEST;
        assert_eq!(slow.due(soon), late, "a silence is bounded all the same");
    }
}
