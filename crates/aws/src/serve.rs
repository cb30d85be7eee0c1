//! The AWS door's listener: HTTP/1.1 and cleartext HTTP/2, on the control plane's runtime.

use std::{convert::Infallible, sync::Arc};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use platform::{Body, Platform};
use tokio::{net::TcpListener, sync::watch};

use crate::identity::Peer;

/// Serves until `stop` turns true; requests under way finish.
pub async fn serve(listener: TcpListener, platform: Platform, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(platform.limits().head_timeout);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, address)) = accepted else {
            continue;
        };
        let platform = platform.clone();
        let peer = Arc::new(Peer::new(address));
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (platform, peer) = (platform.clone(), Arc::clone(&peer));
            async move {
                let request = request.map(Body::from);
                Ok::<_, Infallible>(crate::handle(&platform, &peer, request).await)
            }
        });
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection to the AWS door ended");
            }
        });
    }
    graceful.shutdown().await;
}
