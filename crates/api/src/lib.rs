//! The control plane over HTTP: a Unix socket in the data folder, and a TCP port that wants the operator's token. Beside
//! it the port where spans come in.
//!
//! Handlers are a few lines each: read, ask the platform, answer. No SQL, no policy, no business here.

mod apps;
mod ask;
mod auth;
mod blobs;
mod bridges;
mod captures;
mod contracts;
mod dead_letters;
mod events;
mod fault;
mod invoke;
mod keys;
mod kv;
mod observe;
mod operator;
mod otlp;
mod outboxes;
mod projections;
mod reconcile;
mod replays;
mod serve;
mod streams;
mod subscriptions;

use std::path::Path;

pub use auth::OperatorToken;
use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    routing::{any, delete, get, post, put},
};
pub use fault::Fault;
use model::Limits;
pub use otlp::serve_otlp;
use platform::Platform;
use serde_json::{Value, json};
use serve::{Patience, serve};
use tokio::{net::TcpListener, sync::watch};

/// The control socket's name in the data folder.
pub const SOCKET: &str = "control.sock";

/// All routes, without authentication: for the Unix socket, which the file system protects.
pub fn router(platform: Platform) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(observe::readyz))
        .route("/metrics", get(observe::metrics))
        .route("/v1/apps", get(apps::list))
        .route("/v1/apps/{app}", get(apps::show).delete(apps::remove))
        .route("/v1/apps/{app}/health", get(apps::health))
        .route("/v1/apps/{app}/revisions", get(apps::revisions))
        .route("/v1/apps/{app}/rollback", post(apps::rollback))
        .route("/v1/deploy", post(apps::deploy))
        .route("/v1/deploys", get(apps::under_way))
        .route("/v1/blobs/missing", post(blobs::missing))
        .route("/v1/blobs/{hash}", put(blobs::upload))
        .route("/v1/ps", get(apps::ps))
        .route("/v1/invoke", post(invoke::invoke))
        .route("/v1/invocations/{id}", get(invoke::status))
        .route("/v1/kv", get(kv::buckets))
        .route("/v1/kv/{app}", any(kv::serve))
        .route("/v1/kv/{app}/{*place}", any(kv::serve))
        .route("/v1/events", post(events::publish).get(replays::events))
        .route("/v1/events/find", get(events::find))
        .route("/v1/events/{position}", get(events::at))
        .route(
            "/v1/subscriptions/{app}/{workload}/{name}/filter",
            get(events::filter),
        )
        .route("/v1/contracts", get(contracts::types))
        .route("/v1/keys", get(keys::list))
        .route("/v1/log", get(replays::state))
        .route("/v1/replays", post(replays::start))
        .route("/v1/jobs", get(replays::jobs))
        .route("/v1/jobs/{id}", get(replays::job).delete(replays::cancel))
        .route("/v1/subscriptions", get(subscriptions::list))
        .route(
            "/v1/subscriptions/{app}/{workload}/{name}",
            get(subscriptions::show),
        )
        .route(
            "/v1/subscriptions/{app}/{workload}/{name}/pause",
            post(subscriptions::pause),
        )
        .route(
            "/v1/subscriptions/{app}/{workload}/{name}/resume",
            post(subscriptions::resume),
        )
        .route("/v1/streams/{app}", any(streams::serve))
        .route("/v1/streams/{app}/{*place}", any(streams::serve))
        .route("/v1/projections", get(projections::list))
        .route(
            "/v1/projections/{app}/{workload}/{name}",
            get(projections::show),
        )
        .route(
            "/v1/projections/{app}/{workload}/{name}/rebuild",
            post(projections::rebuild),
        )
        .route(
            "/v1/projections/{app}/{workload}/{name}/switch",
            post(projections::switch),
        )
        .route(
            "/v1/projections/{app}/{workload}/{name}/generations/{number}",
            delete(projections::drop),
        )
        .route("/v1/dead-letters", get(dead_letters::list))
        .route("/v1/dead-letters/redrive", post(dead_letters::redrive_all))
        .route("/v1/dead-letters/discard", post(dead_letters::discard_all))
        .route(
            "/v1/dead-letters/{id}",
            delete(dead_letters::discard)
                .get(dead_letters::show)
                .patch(dead_letters::edit),
        )
        .route("/v1/dead-letters/{id}/redrive", post(dead_letters::redrive))
        .route("/v1/captures", get(captures::list))
        .route(
            "/v1/captures/{app}/{database}",
            get(captures::show)
                .post(captures::init)
                .delete(captures::drop),
        )
        .route("/v1/bridges", get(bridges::list))
        .route("/v1/bridges/{app}/{bridge}/seek", post(bridges::seek))
        .route("/v1/reconciliations", get(reconcile::list))
        .route(
            "/v1/reconciliations/{app}/{name}",
            get(reconcile::show).post(reconcile::sweep),
        )
        .route("/v1/outboxes", get(outboxes::list))
        .route(
            "/v1/outboxes/{app}/{database}/refused",
            get(outboxes::refused),
        )
        .route("/v1/outboxes/{app}/{database}/retry", post(outboxes::retry))
        .route(
            "/v1/outboxes/{app}/{database}/discard",
            post(outboxes::discard),
        )
        .route("/v1/traces", get(observe::traces))
        .route("/v1/traces/{id}", get(observe::trace))
        .route("/v1/logs", get(observe::logs))
        .route("/v1/usage", get(observe::usage))
        .fallback(fault::no_route)
        .method_not_allowed_fallback(fault::no_method)
        .layer(DefaultBodyLimit::max(
            platform.limits().request_body.as_usize(),
        ))
        .with_state(platform)
}

async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

/// Serves TCP while the platform opens, which may take long after a crash: alive, but not ready. Ends when `stop`
/// turns true.
pub async fn serve_starting(listener: TcpListener, stop: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .fallback(observe::starting);
    serve(listener, router, Patience::of(&Limits::default()), stop).await;
}

/// Serves the Unix socket `path` until `stop` turns true. A socket that a killed server left behind is replaced.
///
/// # Errors
/// When the socket cannot be made: its path may be too long (about 100 bytes).
#[cfg(unix)]
pub fn serve_socket(
    path: &Path,
    platform: Platform,
    stop: watch::Receiver<bool>,
) -> std::io::Result<impl Future<Output = ()> + use<>> {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::remove_file(path);
    let listener = tokio::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let router = router(platform).into_make_service_with_connect_info::<operator::Peer>();
    Ok(async move {
        if let Err(error) = axum::serve(listener, router)
            .with_graceful_shutdown(stopped(stop))
            .await
        {
            tracing::error!(%error, "the control socket failed");
        }
    })
}

/// Serves TCP until `stop` turns true. Everything but health and metrics wants `token`.
pub async fn serve_tcp(
    listener: TcpListener,
    platform: Platform,
    token: OperatorToken,
    stop: watch::Receiver<bool>,
) {
    let patience = Patience::of(platform.limits());
    let router = router(platform).layer(axum::middleware::from_fn_with_state(token, auth::check));
    serve(listener, router, patience, stop).await;
}

/// A body as the platform reads it: piece by piece, as it comes.
fn streamed(body: axum::body::Body) -> platform::Body {
    platform::Body::stream(http_body_util::BodyExt::map_err(body, |error| {
        platform::BodyError::Workload(
            model::Error::new(model::code::BAD_REQUEST, "the request broke off").context(error),
        )
    }))
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone: the server is ending.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn while_the_platform_opens_the_server_is_alive_and_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("is bound");
        let stop = watch::Sender::new(false);
        let serving = tokio::spawn(serve_starting(listener, stop.subscribe()));
        for (path, status) in [
            ("/healthz", StatusCode::OK),
            ("/readyz", StatusCode::SERVICE_UNAVAILABLE),
            ("/v1/ps", StatusCode::SERVICE_UNAVAILABLE),
        ] {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("open");
            let ask = format!("GET {path} HTTP/1.0\r\n\r\n");
            stream.write_all(ask.as_bytes()).await.expect("taken");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("text");
            let head = format!("HTTP/1.0 {}", status.as_u16());
            assert!(answer.starts_with(&head), "{path}: {answer}");
        }
        stop.send_replace(true);
        serving.await.expect("it ends when told");
    }
}
