//! The edge: HTTP from clients, to the routes of all live apps.
//!
//! Walk 1 begins here: a worker accepts, [`exchange`] reads the request's identity, [`table`] finds the route,
//! [`before`] asks who must be asked, and `platform::dispatch` runs the target while its answer streams back.

mod before;
mod bus;
mod decisions;
mod exchange;
pub mod publishers;
mod reserved;
mod serve;
mod table;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use decisions::Decisions;
use model::{Error, Limits};
use platform::Platform;
use publishers::Publishers;
pub use table::Diagnostic;
use table::Routes;

use crate::{
    door::Doors,
    forwarded::Network,
    listener::Listener,
    server::{ConnectionLimits, Server, Settings},
};

/// What an edge is made from.
pub struct Options {
    /// Where it listens; each listener's sockets go to one worker each.
    pub listeners: Vec<Listener>,
    /// Limits of its connections; [`connection_limits`] takes them from the platform's.
    pub limits: ConnectionLimits,
    /// Proxies in front of it whose `X-Forwarded-*` is believed. Empty: nobody's.
    pub trusted: Vec<Network>,
    /// What is served under reserved paths (`/_tangelo/health`).
    pub doors: Doors,
}

/// The running edge. Dropping it cuts every connection off.
pub struct Edge {
    server: Server,
    front: Arc<EdgeFront>,
}

/// What the workers share.
struct EdgeFront {
    platform: Platform,
    routes: Arc<Routes>,
    decisions: Decisions,
    publishers: Publishers,
    doors: Doors,
}

/// The limits of connections under `limits`.
#[must_use]
pub fn connection_limits(limits: &Limits) -> ConnectionLimits {
    ConnectionLimits {
        head: limits.head_timeout,
        stall: limits.body_idle,
        connections: limits.connections,
        per_client: limits.client_connections,
        ..ConnectionLimits::default()
    }
}

impl Edge {
    /// Starts serving.
    ///
    /// # Errors
    /// `INTERNAL` when the system gives no threads.
    pub fn start(options: Options, platform: Platform) -> Result<Self, Error> {
        let Options {
            listeners,
            limits,
            trusted,
            doors,
        } = options;
        let routes = Arc::new(Routes::new(&platform));
        let refusals = platform.telemetry().refusals().clone();
        let front = Arc::new(EdgeFront {
            platform,
            routes,
            decisions: Decisions::default(),
            publishers: Publishers::default(),
            doors,
        });
        let server = Server::start(
            Settings {
                name: "edge",
                listeners,
                limits,
                trusted,
                refusals,
                begins: platform::background::step_forward,
            },
            &front,
        )?;
        Ok(Self { server, front })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// Routes of live apps that are not served as their manifests ask.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.front
            .routes
            .now(&self.front.platform)
            .diagnostics
            .clone()
    }

    /// Takes no new connections, asks clients to leave, finishes what is in flight, and cuts off what is left after
    /// `grace`; WebSockets are among that.
    pub async fn drain(&self, grace: Duration) {
        self.server.drain(grace).await;
    }
}
