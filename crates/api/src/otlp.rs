//! OTLP/HTTP in: spans of programs that are no workloads, on a port of their own, without a token. What comes here is
//! of nobody that Tangelo knows; workloads send theirs over the mesh, where it is known who they are.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::Response,
};
use platform::Platform;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    serve::{Patience, serve},
    streamed,
};

/// Serves until `stop` turns true.
pub async fn serve_otlp(listener: TcpListener, platform: Platform, stop: watch::Receiver<bool>) {
    let patience = Patience::of(platform.limits());
    let router = Router::new()
        .route("/v1/traces", axum::routing::post(ingest))
        .fallback(ingest)
        .with_state(platform);
    serve(listener, router, patience, stop).await;
}

/// Other signals come here too, so that their senders are told what is not taken.
async fn ingest(State(platform): State<Platform>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let signal = head.uri.path().trim_start_matches('/');
    let answer = platform::otlp::ingest(
        platform.telemetry(),
        platform.dispatch().buffers(),
        None,
        signal,
        &head.headers,
        streamed(body),
    );
    answer.await.map(Body::new)
}
