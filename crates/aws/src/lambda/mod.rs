//! Lambda's API, 2015-03-31 (REST-JSON): Invoke, InvokeWithResponseStream, GetFunction, ListFunctions, GetFunctionUrlConfig.

mod event_stream;
mod functions;
mod invoke;
mod names;
pub(crate) mod urls;

use bytes::Bytes;
use http::{Method, Request, Response};
use platform::{Body, Platform};

use crate::{
    fault::{self, Fault},
    identity::Identity,
};

/// Answers a request below `/2021-11-15/functions`, where there is only this.
pub(crate) async fn route_streaming(
    platform: &Platform,
    identity: Identity,
    request: Request<Bytes>,
) -> Result<Response<Body>, Fault> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(3).collect();
    match (request.method(), parts.as_slice()) {
        (&Method::POST, [name, "response-streaming-invocations"]) => {
            invoke::stream(platform, identity, name, request).await
        }
        _ => Err(Fault::unsupported(&fault::operation(&request))),
    }
}

/// Answers a request below `/2021-10-31/functions`: functions' URLs.
pub(crate) async fn route_urls(
    platform: &Platform,
    identity: Identity,
    front: &urls::Front,
    request: Request<Bytes>,
) -> Result<Response<Body>, Fault> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').skip(3).collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, [name, "url"]) => urls::get(platform, &identity, front, name).await,
        (&Method::GET, [name, "urls"]) => urls::list(platform, &identity, front, name).await,
        _ => Err(Fault::unsupported(&fault::operation(&request))),
    }
}

/// Answers a request below `/2015-03-31/functions`.
pub(crate) async fn route(
    platform: &Platform,
    identity: Identity,
    request: Request<Bytes>,
) -> Result<Response<Body>, Fault> {
    let path = request.uri().path().to_owned();
    let rest = path
        .trim_start_matches("/2015-03-31/functions")
        .trim_matches('/');
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, []) => functions::list(platform, request.uri().query()),
        (&Method::GET, [name]) => functions::get(platform, &identity, name),
        (&Method::GET, [name, "configuration"]) => {
            functions::configuration(platform, &identity, name)
        }
        (&Method::POST, [name, "invocations"]) => {
            let name = (*name).to_owned();
            invoke::invoke(platform, identity, &name, request).await
        }
        _ => Err(Fault::unsupported(&fault::operation(&request))),
    }
}
