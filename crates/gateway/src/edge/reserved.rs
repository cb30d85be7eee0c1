//! Paths under `/_tangelo/`, which no route gets: the state of asynchronous work, and the doors that others hang in.

use std::str::FromStr;

use http::{Method, Request, Response, request::Parts};
use hyper::body::Incoming;
use model::{Error, InvocationId, code};
use platform::{Body, calls::STATUS_PATH};

use super::{EdgeFront, before::origin_form, bus, exchange::Exchange};
use crate::{door, intake, refusal, routes::checked};

/// What reserved paths begin with.
pub(super) const PREFIX: &str = "/_tangelo/";

impl EdgeFront {
    /// `/_tangelo/…`: the status of asynchronous work, and what others serve there.
    pub(super) async fn reserved(
        &self,
        exchange: &Exchange,
        head: &Parts,
        body: Incoming,
    ) -> Result<Response<Body>, Error> {
        let path = checked(head.uri.path())?;
        if let Some(id) = path.raw().strip_prefix(STATUS_PATH) {
            if !matches!(head.method, Method::GET | Method::HEAD) {
                let error = Error::new(code::METHOD_NOT_ALLOWED, "a status is read with GET");
                let response = refusal::of(&error, exchange.request_id());
                return Ok(refusal::allowing(response, &[Method::GET, Method::HEAD]));
            }
            let id = InvocationId::from_str(id).map_err(|_| {
                Error::new(
                    code::NO_SUCH_INVOCATION,
                    "the path names no invocation: it ends in an id",
                )
            })?;
            return self.platform.calls().status(id).await;
        }
        if let Some(rest) = path.raw().strip_prefix(bus::PREFIX) {
            return self.bus(rest, exchange, head, body).await;
        }
        let Some(door) = door::find(&self.doors, path.raw()) else {
            let message = format!(
                "`{}` is reserved for Tangelo and serves nothing",
                path.raw()
            );
            return Err(Error::new(code::NO_ROUTE, message));
        };
        let limits = self.platform.limits();
        let (body, _) = intake::take(body, limits.request_body, limits.body_idle)?;
        Ok(door.serve(None, clone_head(head, body)?).await)
    }
}

pub(super) fn clone_head(head: &Parts, body: Body) -> Result<Request<Body>, Error> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = origin_form(&head.uri)?;
    *request.headers_mut() = head.headers.clone();
    Ok(request)
}
