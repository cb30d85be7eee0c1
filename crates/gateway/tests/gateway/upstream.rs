//! An HTTP server of the test's own, which stands behind the gateway as an `external` workload and remembers what it saw.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

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
