//! The AWS door's listener: HTTP/1.1 and cleartext HTTP/2, on the control plane's runtime.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use platform::{Body, Ends, Platform};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

use crate::{Front, identity::Peer};

/// Connections at the same time; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;

/// The most that is buffered of a connection in each direction, in bytes.
const BUFFER: usize = 64 << 10;

/// Requests at the same time on one HTTP/2 connection, and bytes of their bodies that may be unread.
const STREAMS: u32 = 64;
const WINDOW: u32 = 64 << 10;

/// Serves until `stop` turns true; requests under way finish.
/// Where the gateway is, `front` says.
pub async fn serve(
    listener: TcpListener,
    platform: Platform,
    front: Front,
    mut stop: watch::Receiver<bool>,
) {
    let front = Arc::new(front);
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(BUFFER)
        .header_read_timeout(platform.limits().head_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_send_buf_size(BUFFER)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let patience = platform.limits().head_timeout;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, peer, place)) = accepted else {
            continue;
        };
        let Ok(own) = stream.local_addr() else {
            continue;
        };
        let (platform, front) = (platform.clone(), Arc::clone(&front));
        let peer = Arc::new(Peer::new(Ends { peer, own }));
        let asked = Arc::new(AtomicBool::new(false));
        let first = Arc::clone(&asked);
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (platform, peer) = (platform.clone(), Arc::clone(&peer));
            let front = Arc::clone(&front);
            first.store(true, Relaxed);
            async move {
                let request = request.map(Body::from);
                Ok::<_, Infallible>(crate::handle(&platform, &front, &peer, request).await)
            }
        });
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            let mut watched = std::pin::pin!(watched);
            // hyper bounds the heads after the first; while it does not know which HTTP is spoken, it bounds nothing.
            let ended = match timeout(patience, &mut watched).await {
                Ok(ended) => ended,
                Err(_) if !asked.load(Relaxed) => return,
                Err(_) => watched.await,
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to the AWS door ended");
            }
            drop(place);
        });
    }
    graceful.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, place)),
        Err(error) => {
            tracing::warn!(%error, "the AWS door cannot accept connections for now");
            pause().await;
            None
        }
    }
}

/// Out of descriptors or memory: trying again at once would only burn CPU.
#[allow(
    clippy::disallowed_methods,
    reason = "a pause in real I/O, which no virtual clock should skip or stretch"
)]
async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}
