//! The mesh's socket: calls of workloads, told apart by the token in their path or in their proxy credentials.
//!
//! Only finds out who calls; what they may do is decided in `platform::mesh`, the same for calls from Wasm guests.

mod address;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use address::Address;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{PROXY_AUTHENTICATE, TRANSFER_ENCODING},
    request::Parts,
};
use hyper::body::Incoming;
use model::{Error, code};
use platform::{Body, Caller, Platform, Presence};

use crate::{
    answer::Answer,
    authority,
    door::{self, Doors},
    headers, intake,
    listener::Listener,
    outgoing, refusal,
    routes::checked,
    server::{ConnectionLimits, Front, Link, Server, Settings},
    upgrade,
};

/// What a mesh is made from.
pub struct Options {
    /// Where it listens: loopback only, workloads are on this machine.
    pub listeners: Vec<Listener>,
    /// Limits of its connections.
    pub limits: ConnectionLimits,
    /// What is served beside `/w/`, `/events` and `/otlp`: behind a token and without one.
    pub doors: Doors,
}

/// The running mesh. Dropping it cuts every connection off.
pub struct MeshDoor {
    server: Server,
}

struct MeshFront {
    platform: Platform,
    doors: Doors,
}

impl MeshDoor {
    /// Starts serving.
    ///
    /// # Errors
    /// `INTERNAL` when the system gives no threads.
    pub fn start(options: Options, platform: Platform) -> Result<Self, Error> {
        let Options {
            listeners,
            limits,
            doors,
        } = options;
        let refusals = platform.telemetry().refusals().clone();
        let front = Arc::new(MeshFront { platform, doors });
        let settings = Settings {
            name: "mesh",
            listeners,
            limits,
            trusted: Vec::new(),
            refusals,
            // Who asks may be a consumer that a delivery runs: nobody waits for that.
            begins: || {},
        };
        Ok(Self {
            server: Server::start(settings, &front)?,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// Takes nothing new and finishes what is in flight; what is left after `grace` is cut off.
    pub async fn drain(&self, grace: Duration) {
        self.server.drain(grace).await;
    }
}

impl Front for MeshFront {
    async fn answer(
        self: Arc<Self>,
        link: Link,
        mut request: Request<Incoming>,
    ) -> Response<Answer> {
        let client = upgrade::of_client(&mut request);
        let (mut head, body) = request.into_parts();
        let method = head.method.clone();
        let mut response = match self.serve(&mut head, body).await {
            Ok(response) => response,
            Err(error) => refusal::of(&error, None),
        };
        if upgrade::is_switching(&response) {
            match (client, upgrade::of_workload(&mut response)) {
                (Some(client), Some(workload)) => {
                    upgrade::join(client, workload, None, link);
                    return outgoing::switching(response);
                }
                _ => response = refusal::of(&outgoing::unasked_switch(), None),
            }
        }
        let mut response = outgoing::finish(response, &method).await;
        if response.extensions_mut().remove::<Challenge>().is_some() {
            let realm = HeaderValue::from_static("Basic realm=\"tangelo mesh\"");
            response.headers_mut().insert(PROXY_AUTHENTICATE, realm);
        }
        response
    }
}

/// In the extensions of an answer of our own: ask for proxy credentials. A workload's header of that kind is taken off.
#[derive(Clone, Copy)]
struct Challenge;

impl MeshFront {
    async fn serve(&self, head: &mut Parts, body: Incoming) -> Result<Response<Body>, Error> {
        authority::certain(head)?;
        let address = address::read(head)?;
        checked(address.uri().path())?;
        let limits = self.platform.limits();
        headers::enter(&mut head.headers);
        head.headers.remove(http::header::EXPECT);
        let (body, fault) = intake::take(body, limits.request_body, limits.body_idle)?;
        // In a box: everything that the mesh offers is within it, and it would be moved from one future to the next.
        let response = Box::pin(self.route(address, head, body)).await?;
        fault.error(limits.request_body).map_or(Ok(response), Err)
    }

    async fn route(
        &self,
        address: Address,
        head: &mut Parts,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        match address {
            Address::Token { token, rest } => {
                let presence = self
                    .platform
                    .mesh()
                    .presence(&token)
                    .ok_or_else(unknown_token)?;
                let caller = caller(presence, head);
                let request = request(head, rest, body);
                match door::find(&self.doors, request.uri().path()) {
                    Some(door) => Ok(door.serve(Some(caller), request).await),
                    None => Ok(self.platform.mesh().serve(caller, request).await),
                }
            }
            Address::Proxy { token, host, uri } => {
                let presence = token.and_then(|token| self.platform.mesh().presence(&token));
                let Some(presence) = presence else {
                    return Ok(challenge());
                };
                let caller = caller(presence, head);
                Ok(self
                    .platform
                    .mesh()
                    .serve_host(caller, &host, request(head, uri, body))
                    .await)
            }
            Address::Open(uri) => match door::find(&self.doors, uri.path()) {
                Some(door) => Ok(door.serve(None, request(head, uri, body)).await),
                None => Err(no_token()),
            },
        }
    }
}

/// Who calls, and what for: the work of the trace that the request belongs to, else the only work there is.
fn caller(presence: Arc<Presence>, head: &Parts) -> Caller {
    let said = platform::mesh::from_headers(&head.headers);
    let working = said
        .and_then(|said| presence.of_trace(said.trace))
        .or_else(|| presence.only());
    Caller { presence, working }
}

/// The request with `uri`; takes the headers out of `head`.
fn request(head: &mut Parts, uri: http::Uri, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = std::mem::replace(&mut head.method, Method::GET);
    *request.uri_mut() = uri;
    *request.headers_mut() = std::mem::take(&mut head.headers);
    request.headers_mut().remove(TRANSFER_ENCODING);
    request
}

fn unknown_token() -> Error {
    let message = "the mesh token is unknown, or the instance that it was given to is gone";
    Error::new(code::BAD_MESH_TOKEN, message)
}

fn no_token() -> Error {
    let message = "a path on the mesh begins with the token of the calling instance (`/~TOKEN/w/NAME`): use the \
                   addresses in the environment, such as TANGELO_MESH_URL";
    Error::new(code::BAD_MESH_TOKEN, message)
}

/// Some clients send proxy credentials only when asked (RFC 9110 §11.7.1).
fn challenge() -> Response<Body> {
    let message = "the mesh's proxy wants the token of the calling instance as user name, as http_proxy has it";
    let error = Error::new(code::BAD_MESH_TOKEN, message);
    let mut response = refusal::with_status(
        refusal::of(&error, None),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    );
    response.extensions_mut().insert(Challenge);
    response
}
