//! `/_tangelo/bus/APP/…`: the bus of an app, for those outside who have a key of it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header, request::Parts};
use hyper::body::Incoming;
use model::{ByteSize, Error, code};
use percent_encoding::percent_decode_str;
use platform::{
    Body,
    outside::{LeaseAsk, LeaseEnd, PullAsk, duration},
    query::pairs,
    telemetry::Full,
};
use serde_json::Value;

use super::{EdgeFront, exchange::Exchange, reserved::clone_head};
use crate::{headers, intake, refusal};

/// What these paths begin with.
pub(super) const PREFIX: &str = "/_tangelo/bus/";
/// Most bytes of what says what became of events.
const ENDS: ByteSize = ByteSize(1 << 20);

/// What a path asks for.
enum Ask<'p> {
    Publish,
    Pull(&'p str),
    End(&'p str, LeaseEnd),
}

impl<'p> Ask<'p> {
    fn of(path: &[&'p str]) -> Option<Self> {
        match path {
            ["events"] => Some(Self::Publish),
            ["pull", name] => Some(Self::Pull(name)),
            ["pull", name, "ack"] => Some(Self::End(name, LeaseEnd::Ack)),
            ["pull", name, "nack"] => Some(Self::End(name, LeaseEnd::Nack)),
            ["pull", name, "extend"] => Some(Self::End(name, LeaseEnd::Extend)),
            _ => None,
        }
    }

    /// A pull may be a GET, too, for those who have nothing else: what it hands out comes again by itself.
    const fn methods(&self) -> &'static [Method] {
        match self {
            Self::Pull(_) => &[Method::GET, Method::POST],
            _ => &[Method::POST],
        }
    }
}

impl EdgeFront {
    /// Answers a path after [`PREFIX`].
    pub(super) async fn bus(
        &self,
        path: &str,
        exchange: &Exchange,
        head: &Parts,
        body: Incoming,
    ) -> Result<Response<Body>, Error> {
        let parts: Vec<&str> = path.split('/').collect();
        let asked = parts
            .split_first()
            .and_then(|(app, rest)| Some((*app, Ask::of(rest)?)));
        let Some((app, ask)) = asked else {
            let message =
                "the bus has `APP/events`, `APP/pull/NAME` and its `ack`, `nack` and `extend`";
            return Err(Error::new(code::NO_ROUTE, message));
        };
        if matches!(ask, Ask::Publish) && headers::is_websocket(&head.headers) {
            return self.publish_by_messages(app, exchange, head);
        }
        if !ask.methods().contains(&head.method) {
            let message = format!("{} is not for this path; see the Allow header", head.method);
            let error = Error::new(code::METHOD_NOT_ALLOWED, message);
            let response = refusal::of(&error, exchange.request_id());
            return Ok(refusal::allowing(response, ask.methods()));
        }
        let platform = &self.platform;
        // Before a byte of the body is read.
        let outsider = platform.outsider(app, &head.headers);
        let outsider = match outsider {
            Ok(outsider) => outsider,
            Err(error) => return Ok(challenge(&error, exchange)),
        };
        let limits = platform.limits();
        match ask {
            Ask::Publish => {
                let limit = limits.publish_body();
                let (body, fault) = intake::take(body, limit, limits.body_idle)?;
                let request = clone_head(head, self.whole(body, limit).await?)?;
                let published = platform.publish_outside(&outsider, exchange.trace, request);
                let published = published.await.inspect_err(|error| {
                    if [code::LOG_FULL, code::STORE_BUSY].contains(&error.code) {
                        platform.telemetry().refusals().request(None, Full::Log);
                    }
                });
                fault.error(limit).map_or(published, Err)
            }
            Ask::Pull(name) => {
                let ask = pull_ask(head.uri.query().unwrap_or_default())?;
                let (body, _) = intake::take(body, ENDS, limits.body_idle)?;
                if !bytes_of(self.whole(body, ENDS).await?).await?.is_empty() {
                    let message =
                        "a pull has no body: `max`, `wait` and `lease` stand in its query";
                    return Err(bad(message.to_owned()));
                }
                platform.pull(&outsider, name, ask).await.map(answer)
            }
            Ask::End(name, end) => {
                let (body, _) = intake::take(body, ENDS, limits.body_idle)?;
                let ask = lease_ask(self.whole(body, ENDS).await?).await?;
                let ended = platform.end_leases(&outsider, name, end, ask).await;
                ended.map(answer)
            }
        }
    }
}

impl EdgeFront {
    /// A connection on which the key that began it, as long as it is good, publishes.
    fn publish_by_messages(
        &self,
        app: &str,
        exchange: &Exchange,
        head: &Parts,
    ) -> Result<Response<Body>, Error> {
        let outsider = match self.platform.outsider(app, &head.headers) {
            Ok(outsider) => outsider,
            Err(error) => return Ok(challenge(&error, exchange)),
        };
        let (platform, app) = (self.platform.clone(), outsider.app().clone());
        let presented = head.headers.get_all(header::AUTHORIZATION).iter();
        let presented = presented.map(|value| (header::AUTHORIZATION, value.clone()));
        let presented: HeaderMap = presented.collect();
        let own = app.clone();
        let who = Box::new(move || {
            let outsider = platform.outsider(own.as_str(), &presented)?;
            outsider.publishes(platform.new_trace())
        });
        self.publishers.admit(&self.platform, head, &app, who)
    }
}

/// Says which scheme it takes (RFC 6750, section 3).
fn challenge(error: &Error, exchange: &Exchange) -> Response<Body> {
    let mut response = refusal::of(error, exchange.request_id());
    let scheme = HeaderValue::from_static("Bearer realm=\"tangelo\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, scheme);
    response
}

fn answer(value: Value) -> Response<Body> {
    let mut response = Response::new(Body::full(value.to_string()));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn bad(message: String) -> Error {
    Error::new(code::BAD_REQUEST, message)
}

fn pull_ask(query: &str) -> Result<PullAsk, Error> {
    let mut ask = PullAsk::default();
    for pair in pairs(query) {
        let (name, value) = pair?;
        let value = percent_decode_str(value).decode_utf8_lossy();
        match name {
            "max" => {
                let max = value.parse().ok().filter(|max| (1..=1000).contains(max));
                let wrong = || bad(format!("`max={value}` is no number from 1 to 1000"));
                ask.max = Some(max.ok_or_else(wrong)?);
            }
            "wait" => ask.wait = duration(&value)?,
            "lease" => ask.lease = Some(duration(&value)?),
            _ => {
                return Err(bad(format!(
                    "`{name}` is not known here: `max`, `wait`, `lease`"
                )));
            }
        }
    }
    Ok(ask)
}

async fn bytes_of(body: Body) -> Result<Bytes, Error> {
    let bytes = body.collect(ENDS).await;
    bytes.map_err(|e| bad("the request's body broke off".to_owned()).context(e))
}

async fn lease_ask(body: Body) -> Result<LeaseAsk, Error> {
    serde_json::from_slice(&bytes_of(body).await?)
        .map_err(|e| bad(format!("the body is no `{{\"leases\": [\"…\"]}}`: {e}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn queries_say_how_much_and_how_long() {
        let ask = pull_ask("max=5&wait=20s&lease=1m").expect("is one");
        assert_eq!((ask.max, ask.wait), (Some(5), Duration::from_secs(20)));
        assert_eq!(ask.lease, Some(Duration::from_secs(60)));
        assert!(pull_ask("").is_ok_and(|ask| ask.max.is_none()));
        for wrong in [
            "max=0",
            "max=1001",
            "max=x",
            "wait=20",
            "lease=-1s",
            "maximum=1",
            "max=1&max=2",
        ] {
            let refused = pull_ask(wrong).err();
            assert!(
                refused.is_some_and(|e| e.code == code::BAD_REQUEST),
                "{wrong}"
            );
        }
    }
}
