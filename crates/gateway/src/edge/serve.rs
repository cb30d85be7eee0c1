//! One request from its head to its answer.

use std::sync::Arc;

use http::{Method, Request, Response, Uri, request::Parts, uri::PathAndQuery};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use model::{ByteSize, Class, Error, Invocation, Principal, Trigger, code};
use platform::{
    Body, BodyError, Input,
    dispatch::Callee,
    events::{Origin, Who},
    telemetry::Full,
};
use tokio::time::timeout;

use super::{
    EdgeFront,
    before::{Asked, origin_form},
    exchange::Exchange,
    publishers::{self, Admitted},
    reserved,
    table::{Answerer, Serving},
};
use crate::{
    answer::Answer,
    authority::Authority,
    headers, intake, outgoing, refusal,
    routes::{Found, checked},
    server::{Front, Link},
    upgrade,
};

/// What a request's head leads to.
enum Way {
    Serve(Arc<Serving>),
    Answer(Response<Body>),
}

impl Front for EdgeFront {
    async fn answer(
        self: Arc<Self>,
        link: Link,
        mut request: Request<Incoming>,
    ) -> Response<Answer> {
        let client = upgrade::of_client(&mut request);
        let (mut head, body) = request.into_parts();
        let method = head.method.clone();
        let mut exchange = Exchange::begin(&self.platform, &head);
        let response = match self.serve(&mut exchange, &mut head, body, &link).await {
            Ok(response) => response,
            Err(error) => refuse(&error, &mut exchange),
        };
        self.finish(exchange, response, &method, client, link).await
    }
}

impl EdgeFront {
    async fn serve(
        &self,
        exchange: &mut Exchange,
        head: &mut Parts,
        body: Incoming,
        link: &Link,
    ) -> Result<Response<Body>, Error> {
        let authority = exchange.enter(head, link.peer())?;
        if head.uri.path().starts_with(reserved::PREFIX) {
            return Box::pin(self.reserved(exchange, head, body)).await;
        }
        match self.find(authority.name(), exchange, head)? {
            Way::Answer(response) => Ok(response),
            Way::Serve(serving) => {
                exchange.trail.route = Some(Arc::clone(&serving.routed));
                let idle = self.platform.limits().body_idle;
                let (body, fault) = intake::take(body, serving.max_body, idle)?;
                let served = self.run(&serving, exchange, head, body).await;
                // Whatever the workload made of a body that broke off, the client hears about its own mistake.
                fault.error(serving.max_body).map_or(served, Err)
            }
        }
    }

    /// The route of `head`, or the answer that it gets without one.
    fn find(&self, host: &str, exchange: &Exchange, head: &Parts) -> Result<Way, Error> {
        if head.uri.path() == "*" && head.method == Method::OPTIONS {
            return Ok(Way::Answer(refusal::no_content()));
        }
        if head.method == Method::CONNECT {
            let message = "this gateway is no proxy: CONNECT goes nowhere";
            return Err(Error::new(code::METHOD_NOT_ALLOWED, message));
        }
        let path = checked(head.uri.path())?;
        let compiled = self.routes.now(&self.platform);
        match compiled.table.find(host, &head.method, &path) {
            Found::Route(serving) => {
                let other = path.with_separators();
                if let Some(other) = &other
                    && let Found::Route(other) =
                        compiled.table.find(host, &head.method, &checked(other)?)
                    && guards_differ(serving, other)
                {
                    return Err(ambiguous());
                }
                Ok(Way::Serve(Arc::clone(serving)))
            }
            Found::OtherMethods(methods) if head.method == Method::OPTIONS => Ok(Way::Answer(
                refusal::allowing(refusal::no_content(), &methods),
            )),
            Found::OtherMethods(methods) => {
                let message = format!("no route takes {} here; see the Allow header", head.method);
                let error = Error::new(code::METHOD_NOT_ALLOWED, message);
                Ok(Way::Answer(refusal::allowing(
                    refusal::of(&error, exchange.request_id()),
                    &methods,
                )))
            }
            Found::Nothing => {
                let named = if host.is_empty() { "any host" } else { host };
                let message = format!("no route for `{}` on `{named}`", head.uri.path());
                Err(Error::new(code::NO_ROUTE, message))
            }
        }
    }

    /// Asks who must be asked, then the target. A place is taken first: what cannot run costs no more than that.
    async fn run(
        &self,
        serving: &Serving,
        exchange: &mut Exchange,
        head: &mut Parts,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let platform = &self.platform;
        let permit = match &serving.target {
            Answerer::Workload(callee) if !serving.route.asynchronous => {
                let admitted = platform.dispatch().admit(callee, Class::Interactive);
                Some(admitted.map_err(|refused| refused.0)?)
            }
            Answerer::Workload(_) | Answerer::Events => None,
        };
        let principals = match self.ask(serving, exchange, head).await? {
            Asked::Pass(principals) => principals,
            Asked::Answer(response) => return Ok(response),
        };
        match (&serving.target, permit) {
            (_, Some(permit)) => {
                let invocation = invocation(serving, exchange, head, permit.callee(), principals);
                let input = Input::http(request_of(serving, head, body)?);
                let (dispatch, buffer) = (platform.dispatch(), &exchange.trail.buffer);
                dispatch.invoke_for(buffer, permit, invocation, input).await
            }
            (Answerer::Workload(callee), None) => {
                let invocation = invocation(serving, exchange, head, callee, principals);
                let body = Box::pin(self.whole(body, serving.max_body)).await?;
                let request = request_of(serving, head, body)?;
                let calls = platform.calls();
                Box::pin(calls.accept_http(callee, &serving.route, invocation, request)).await
            }
            (Answerer::Events, None) if headers::is_websocket(&head.headers) => {
                let who = self.who(serving, head, principals)?;
                self.publishers.admit(platform, head, &serving.app, who)
            }
            (Answerer::Events, None) if head.method != Method::POST => {
                let message = format!("events are published with POST, not with {}", head.method);
                let error = Error::new(code::METHOD_NOT_ALLOWED, message);
                let response = refusal::of(&error, exchange.request_id());
                Ok(refusal::allowing(response, &[Method::POST]))
            }
            (Answerer::Events, None) => {
                let origin = Origin::Outside {
                    app: Some(serving.app.clone()),
                    trace: exchange.trace,
                    principals,
                };
                let body = Box::pin(self.whole(body, serving.max_body)).await?;
                let request = request_of(serving, head, body)?;
                let published = Box::pin(platform.events().publish_http(origin, request)).await;
                published.inspect_err(|error| {
                    if [code::LOG_FULL, code::STORE_BUSY].contains(&error.code) {
                        platform.telemetry().refusals().request(None, Full::Log);
                    }
                })
            }
        }
    }

    /// Who publishes over a connection that came by `serving`, as long as that is there.
    fn who(
        &self,
        serving: &Serving,
        head: &Parts,
        principals: Vec<Principal>,
    ) -> Result<Who, Error> {
        let (routes, platform) = (Arc::clone(&self.routes), self.platform.clone());
        let host = Authority::read(head)?.name().to_owned();
        let (app, method, path) = (
            serving.app.clone(),
            head.method.clone(),
            head.uri.path().to_owned(),
        );
        Ok(Box::new(move || {
            let compiled = routes.now(&platform);
            match compiled.table.find(&host, &method, &checked(&path)?) {
                Found::Route(serving)
                    if serving.app == app && matches!(serving.target, Answerer::Events) =>
                {
                    Ok(Origin::Outside {
                        app: Some(app.clone()),
                        trace: platform.new_trace(),
                        principals: principals.clone(),
                    })
                }
                _ => {
                    let message = format!("`{app}` has no route to `events` here any more");
                    Err(Error::new(code::NO_ROUTE, message))
                }
            }
        }))
    }

    /// The whole body, for what is stored before it is answered. Nobody's timeout bounds how long a client takes for
    /// it, so this does.
    pub(super) async fn whole(&self, body: Body, limit: ByteSize) -> Result<Body, Error> {
        let longest = self.platform.limits().body_idle;
        let buffers = self.platform.dispatch().buffers();
        match timeout(longest, buffers.collect(body, limit)).await {
            Ok(Ok(bytes)) => Ok(Body::full(bytes)),
            Ok(Err(BodyError::Workload(error))) => {
                let refusals = self.platform.telemetry().refusals();
                refusals.request(None, Full::Buffers);
                Err(error)
            }
            Ok(Err(error)) => {
                Err(Error::new(code::BAD_REQUEST, "the request's body broke off").context(error))
            }
            Err(_) => Err(intake::too_slow()),
        }
    }

    /// What every answer gets on its way out.
    async fn finish(
        &self,
        mut exchange: Exchange,
        mut response: Response<Body>,
        method: &Method,
        client: Option<OnUpgrade>,
        link: Link,
    ) -> Response<Answer> {
        response
            .headers_mut()
            .insert(headers::REQUEST_ID, exchange.request_id.clone());
        if upgrade::is_switching(&response) {
            let admitted = response.extensions_mut().remove::<Admitted>();
            let workload = upgrade::of_workload(&mut response);
            exchange.trail.status = Some(response.status());
            match (client, admitted, workload) {
                (Some(client), Some(admitted), _) => {
                    let platform = self.platform.clone();
                    publishers::serve(platform, admitted, client, exchange.trail, link);
                    return outgoing::switching(response);
                }
                (Some(client), None, Some(workload)) => {
                    upgrade::join(client, workload, Some(exchange.trail), link);
                    return outgoing::switching(response);
                }
                _ => response = refuse(&outgoing::unasked_switch(), &mut exchange),
            }
        }
        exchange.trail.status = Some(response.status());
        let response = outgoing::finish(response, method).await;
        response.map(|answer| answer.recorded(exchange.trail))
    }
}

fn invocation(
    serving: &Serving,
    exchange: &mut Exchange,
    head: &Parts,
    callee: &Callee,
    principals: Vec<Principal>,
) -> Invocation {
    exchange.trail.invocation = Some(exchange.id);
    Invocation {
        id: exchange.id,
        target: Arc::clone(&callee.target),
        trigger: Trigger::Route(Arc::clone(&serving.path)),
        class: if serving.route.asynchronous {
            Class::Async
        } else {
            Class::Interactive
        },
        principals,
        trace: exchange.trace,
        deadline: exchange.deadline(serving.timeout),
        depth: 0,
        idempotency_key: headers::idempotency_key(&head.headers).map(Arc::from),
        attempt: 1,
    }
}

/// The request as the target gets it: in origin form, rewritten where the route says so. Takes the headers out of `head`.
fn request_of(serving: &Serving, head: &mut Parts, body: Body) -> Result<Request<Body>, Error> {
    let uri = match &serving.rewrite {
        None => origin_form(&head.uri)?,
        Some(rewrite) => {
            let path = rewrite.apply(&checked(head.uri.path())?);
            let path = match head.uri.query() {
                Some(query) => format!("{path}?{query}"),
                None => path,
            };
            let path = PathAndQuery::try_from(path).map_err(Error::internal)?;
            Uri::from(path)
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = std::mem::take(&mut head.headers);
    Ok(request)
}

/// Whether the same workload stands behind both routes, and one asks whom the other does not: then it matters how an
/// encoded slash is read, and a client could choose who guards its request.
fn guards_differ(one: &Arc<Serving>, other: &Arc<Serving>) -> bool {
    let same_target = match (&one.target, &other.target) {
        (Answerer::Workload(a), Answerer::Workload(b)) => Arc::ptr_eq(a, b),
        (Answerer::Events, Answerer::Events) => true,
        _ => false,
    };
    same_target && one.route.before != other.route.before
}

fn ambiguous() -> Error {
    let message = "the path is refused: with its encoded slashes read as slashes it is another route, which asks \
                   others before it passes a request on";
    Error::new(code::BAD_REQUEST, message)
}

fn refuse(error: &Error, exchange: &mut Exchange) -> Response<Body> {
    let mut response = refusal::of(error, exchange.request_id());
    response
        .headers_mut()
        .insert(headers::REQUEST_ID, exchange.request_id.clone());
    if response.status().is_server_error() {
        exchange.trail.error = Some(error.to_string());
    }
    response
}
