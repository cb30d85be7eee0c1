//! An HTTP server of the test's own, which stands behind the gateway as an `external` workload and remembers what it saw.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// The bodies that it answers with.
pub(crate) type Answer = BoxBody<Bytes, Infallible>;

/// What it saw of a request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
}

/// The server.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    /// One that answers with what `answer` says.
    pub(crate) async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Answer>> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let upstream = Self {
            address: listener.local_addr().expect("is bound"),
            seen: Arc::default(),
        };
        let (seen, answer) = (Arc::clone(&upstream.seen), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                let service = service_fn(move |request: Request<Incoming>| {
                    seen.lock().expect("no test panics with it").push(Seen {
                        method: request.method().clone(),
                        uri: request.uri().to_string(),
                        headers: request.headers().clone(),
                    });
                    let answer = Arc::clone(&answer);
                    async move { Ok::<_, Infallible>(answer(request).await) }
                });
                tokio::spawn(
                    http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades(),
                );
            }
        });
        upstream
    }

    /// One that answers `METHOD URI BODY`.
    pub(crate) async fn echo() -> Self {
        Self::start(|request| async move {
            let (head, body) = request.into_parts();
            let body = body
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .unwrap_or_default();
            text(&format!(
                "{} {} {}",
                head.method,
                head.uri,
                String::from_utf8_lossy(&body)
            ))
        })
        .await
    }

    /// All that it saw.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no test panics with it").clone()
    }

    /// What it saw last.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("a request came")
    }
}

/// A server that speaks bytes: every request's head on a connection gets the next of `answers`, as it is; after the
/// last, the connection is closed.
pub(crate) async fn scripted(answers: &'static [&'static [u8]]) -> Raw {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let raw = Raw {
        address: listener.local_addr().expect("is bound"),
        heads: Arc::default(),
        connections: Arc::default(),
    };
    let handle = raw.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            handle.connections.fetch_add(1, Relaxed);
            let heads = Arc::clone(&handle.heads);
            tokio::spawn(async move {
                for answer in answers {
                    if *answer == UNREAD {
                        let _ = stream.peek(&mut [0]).await;
                        return;
                    }
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let head = String::from_utf8(head).expect("a head is ASCII");
                    heads.lock().expect("no test panics with it").push(head);
                    let _ = stream.write_all(answer).await;
                }
            });
        }
    });
    raw
}

/// An answer of [`scripted`] that is none: the connection closes, and the request was not read.
pub(crate) const UNREAD: &[u8] = b"unread";

/// A server that speaks bytes.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Raw {
    /// The heads that it read.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no test panics with it").clone()
    }

    /// The connections that it accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// An app with everything routed to it.
    pub(crate) fn manifest(&self) -> String {
        format!(
            "app: shop\nworkloads:\n  web:\n    as: service\n    run: {{external: {{url: \"http://{}\"}}}}\n\
             gateway: {{routes: [{{path: /*, to: web}}]}}\n",
            self.address
        )
    }
}

impl Seen {
    /// A header's value, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("is ASCII"))
    }
}

/// 200 with a text.
pub(crate) fn text(text: &str) -> Response<Answer> {
    Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed())
}

/// An app with one external workload `web`, and what follows in the manifest.
pub(crate) fn app(upstream: &Upstream, routes: &str) -> String {
    format!(
        "app: shop\nworkloads:\n  web:\n    as: service\n    run: {{external: {{url: \"http://{}\"}}}}\n{routes}",
        upstream.address
    )
}

/// [`app`] with everything routed to `web`.
pub(crate) fn everything(upstream: &Upstream) -> String {
    app(upstream, "gateway: {routes: [{path: /*, to: web}]}\n")
}
