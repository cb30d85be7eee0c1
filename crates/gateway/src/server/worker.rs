//! One worker: a thread with a current-thread runtime that accepts connections and serves them to their end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use model::{Error, code};
use platform::telemetry::Refusals;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Alive, Connected, ConnectionLimits, Front, Link, Order, Settings, clients::Clients, connection,
};
use crate::{
    forwarded::{Network, Peer},
    listener::Socket,
};

/// What the workers of a server share.
pub(super) struct Shared {
    pub(super) limits: ConnectionLimits,
    trusted: Vec<Network>,
    connections: Arc<Semaphore>,
    clients: Arc<Clients>,
    refusals: Refusals,
}

impl Shared {
    pub(super) fn new(settings: &Settings) -> Self {
        let connections = settings.limits.connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            limits: settings.limits,
            trusted: settings.trusted.clone(),
            connections: Arc::new(Semaphore::new(connections)),
            refusals: settings.refusals.clone(),
            clients: Clients::new(settings.limits.per_client, settings.limits.count_local),
        }
    }
}

/// One worker, before it runs.
pub(super) struct Worker<F> {
    runtime: Runtime,
    sockets: Vec<Socket>,
    context: Context<F>,
}

/// What accepting needs.
struct Context<F> {
    shared: Arc<Shared>,
    front: Arc<F>,
    order: watch::Receiver<Order>,
}

impl<F> Clone for Context<F> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            front: Arc::clone(&self.front),
            order: self.order.clone(),
        }
    }
}

impl<F: Front> Worker<F> {
    pub(super) fn new(
        sockets: Vec<Socket>,
        shared: Arc<Shared>,
        front: Arc<F>,
        order: watch::Receiver<Order>,
    ) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime
            .map_err(|e| Error::new(code::INTERNAL, "no event queue for a worker").context(e))?;
        Ok(Self {
            runtime,
            sockets,
            context: Context {
                shared,
                front,
                order,
            },
        })
    }

    /// Serves until told to drain, then until all is done or the grace is over. What is left is cut off.
    pub(super) fn run(self) {
        let Self {
            runtime,
            sockets,
            context,
        } = self;
        runtime.block_on(async move {
            let (alive, mut all_ended) = mpsc::channel(1);
            let mut order = context.order.clone();
            // Connections listen to their own worker only, so that no lock is shared between workers.
            let local = watch::Sender::new(Order::Serve);
            for socket in sockets {
                let context = Context {
                    order: local.subscribe(),
                    ..context.clone()
                };
                tokio::spawn(accept_all(socket, context, Alive(alive.clone())));
            }
            drop(alive);
            let grace = match order
                .wait_for(|order| *order != Order::Serve)
                .await
                .as_deref()
            {
                Ok(Order::Drain(grace)) => *grace,
                Ok(Order::Serve) | Err(_) => Duration::ZERO,
            };
            local.send_replace(Order::Drain(grace));
            let _ = tokio::time::timeout(grace, all_ended.recv()).await;
        });
        runtime.shutdown_background();
    }
}

async fn accept_all<F: Front>((socket, tls): Socket, context: Context<F>, alive: Alive) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listening socket could not be watched");
            return;
        }
    };
    let mut order = context.order.clone();
    let draining = order.wait_for(|order| *order != Order::Serve);
    tokio::pin!(draining);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut draining => break,
            accepted = accept(&listener, &context.shared.connections) => accepted,
        };
        if let Some((stream, address, permit)) = accepted {
            serve(stream, tls.clone(), address, permit, &context, &alive);
        }
    }
    // What the kernel has accepted already would be reset when the socket closes.
    while let Some(Some((stream, address, permit))) =
        accept(&listener, &context.shared.connections).now_or_never()
    {
        serve(stream, tls.clone(), address, permit, &context, &alive);
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, permit)),
        Err(error) => {
            pause_after(&error).await;
            None
        }
    }
}

/// Out of descriptors or memory: trying again at once would only burn CPU. Errors of single connections pass.
#[allow(
    clippy::disallowed_methods,
    reason = "a pause in real I/O, which no virtual clock should skip or stretch"
)]
async fn pause_after(error: &std::io::Error) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        tracing::warn!(%error, "cannot accept connections for now");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn serve<F: Front>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
    context: &Context<F>,
    alive: &Alive,
) {
    let peer = Peer::new(address.ip(), &context.shared.trusted);
    let peer = if tls.is_some() { peer.over_tls() } else { peer };
    let counted = match context.shared.clients.enter(&peer) {
        Ok(counted) => counted,
        Err(refusal) => {
            context.shared.refusals.connection();
            tokio::spawn(async move {
                // A handshake would cost more than the connection may.
                if tls.is_none() {
                    refusal.say(stream).await;
                }
                drop(permit);
            });
            return;
        }
    };
    let link = Link(Arc::new(Connected {
        peer,
        order: context.order.clone(),
        _alive: alive.clone(),
        _permit: permit,
        _counted: counted,
    }));
    let context = context.clone();
    tokio::spawn(async move {
        let ended = connection::serve(
            (stream, tls),
            link,
            &context.shared.limits,
            context.front,
            context.order,
        )
        .await;
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    });
}
