//! Events to endpoints outside, as signed webhooks (Standard Webhooks 1.0.0).
//!
//! Nothing is sent to an address that is neither public nor declared; no redirect is followed; of an answer's body no
//! more is read than [`ANSWER`]. What an answer means is [`Verdict`], in the extensions of the response; what becomes of
//! the delivery is for the loop that made it to say. Nothing is started or measured here.

mod breaker;
mod signature;
mod verdict;

use std::{
    collections::HashMap,
    path::Path,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use breaker::{Breaker, Said, Shut};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{
    HeaderName, HeaderValue, Method, Request, Response, Uri,
    header::{CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT},
};
use model::{ByteSize, Error, Invocation, Webhook, code};
use parking_lot::Mutex;
use serde_json::Value;
pub use signature::{BYTES, Key, PREFIX};
pub use verdict::{LONGEST_WAIT, Verdict, law};

use crate::{
    body::Body,
    call::{Input, Meter, Ran},
    flights::Flights,
    http_input::TRACEPARENT,
    pool::{Context, PoolStats, Spec},
    trust,
    upstream::{Origin, Terms, Upstream},
};

/// Which delivery it is.
pub const ID: HeaderName = HeaderName::from_static("webhook-id");
/// When this attempt was made, in seconds since 1970.
pub const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// That it is from here.
pub const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Most of an answer's body that is read.
pub const ANSWER: ByteSize = ByteSize(64 << 10);
/// Largest file of certificates.
const CERTIFICATES: u64 = 1 << 20;
/// How soon it is looked again whether a secret is there.
const NO_SECRET: Duration = Duration::from_secs(1);

/// The breakers of all endpoints, by URL: whoever posts to the same shares one.
#[derive(Default)]
pub struct Endpoints(Mutex<HashMap<String, Weak<Breaker>>>);

impl Endpoints {
    fn breaker(&self, url: &str) -> Arc<Breaker> {
        let mut all = self.0.lock();
        if let Some(known) = all.get(url).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, breaker| breaker.strong_count() > 0);
        let breaker = Arc::<Breaker>::default();
        all.insert(url.to_owned(), Arc::downgrade(&breaker));
        breaker
    }
}

/// The way to one endpoint.
pub struct Pool {
    ctx: Arc<Context>,
    spec: Spec,
    webhook: Webhook,
    /// Where to, or why that is nowhere.
    endpoint: Result<Endpoint, Error>,
    breaker: Arc<Breaker>,
    flights: Arc<Flights>,
    failures: AtomicU64,
}

struct Endpoint {
    upstream: Arc<Upstream>,
    /// Path and query.
    path: Uri,
}

/// What is posted.
struct Message {
    body: Bytes,
    kind: &'static str,
}

impl Pool {
    /// Connects to nobody yet.
    #[must_use]
    pub fn new(
        ctx: &Arc<Context>,
        endpoints: &Endpoints,
        webhook: Webhook,
        spec: Spec,
    ) -> Arc<Self> {
        let endpoint = endpoint(ctx, &spec, &webhook).map_err(|problem| {
            let name = &spec.workload.name;
            Error::new(code::START_FAILED, format!("`{name}`: {problem}"))
        });
        Arc::new(Self {
            breaker: endpoints.breaker(&webhook.url),
            ctx: Arc::clone(ctx),
            endpoint,
            webhook,
            spec,
            flights: Arc::default(),
            failures: AtomicU64::new(0),
        })
    }

    /// Whether something may be posted now. What is let in is to be given back by [`Pool::leave`].
    ///
    /// # Errors
    /// `SIGNING_SECRET`, `BREAKER_OPEN` or `ENDPOINT_BUSY`, with when to ask again: nothing was tried.
    pub fn enter(&self) -> Result<(), Error> {
        self.keys()?;
        self.breaker.enter(self.ctx.clock.now()).map_err(|shut| {
            let name = &self.spec.workload.name;
            match shut {
                Shut::Open(failures, last, left) => {
                    let message = format!(
                        "the breaker of `{name}` is open after {failures} failures; the last: {last}"
                    );
                    Error::new(code::BREAKER_OPEN, message).retry_after(left)
                }
                Shut::Asked(left) => {
                    let message = format!("the endpoint of `{name}` asked for its events later");
                    Error::new(code::ENDPOINT_BUSY, message).retry_after(left)
                }
            }
        })
    }

    /// What was let in is over.
    pub fn leave(&self) {
        self.breaker.leave();
    }

    /// Posts what was admitted.
    pub async fn invoke(self: &Arc<Self>, invocation: Arc<Invocation>, input: Input) -> Ran {
        let meter = Arc::new(Meter::default());
        match self.post(&invocation, input, &meter).await {
            Ok(response) => Ran {
                response: Ok(response),
                meter,
            },
            Err(error) => {
                self.failures.fetch_add(1, Relaxed);
                meter.fail(error.clone());
                Ran::failed(error, meter)
            }
        }
    }

    async fn post(
        &self,
        invocation: &Invocation,
        input: Input,
        meter: &Arc<Meter>,
    ) -> Result<Response<Body>, Error> {
        let endpoint = self.endpoint.as_ref().map_err(Clone::clone)?;
        let request = self.request(endpoint, invocation, message(input)?)?;
        let terms = Terms {
            deadline: invocation.deadline,
            body_idle: self.ctx.limits.body_idle,
            meter: Arc::clone(meter),
            repeated: false,
        };
        let flight = self.flights.begin();
        let sent = endpoint
            .upstream
            .send(Box::new(request), terms, flight)
            .await;
        let answer = sent.map_err(|failed| self.unanswered(failed.error))?;
        let (mut head, body) = answer.into_parts();
        let verdict = Verdict::of(head.status, &head.headers, self.ctx.clock.now());
        self.hear(match verdict {
            Verdict::Taken | Verdict::Refused | Verdict::Gone => Said::Well,
            Verdict::Later(wait) => Said::Wait(wait),
            Verdict::Failed => Said::Ill(format!("it answered {}", head.status.as_u16())),
        });
        if verdict != Verdict::Taken {
            self.failures.fetch_add(1, Relaxed);
        }
        let body = self.some_of(body, invocation).await;
        head.headers.clear();
        head.extensions.insert(verdict);
        Ok(Response::from_parts(head, Body::full(body)))
    }

    fn unanswered(&self, error: Error) -> Error {
        let said = error.message.clone();
        self.hear(Said::Ill(said));
        error
    }

    fn hear(&self, said: Said) {
        let now = self.ctx.clock.now();
        self.breaker.hear(said, self.webhook.breaker, now);
    }

    fn request(
        &self,
        endpoint: &Endpoint,
        invocation: &Invocation,
        message: Message,
    ) -> Result<Request<Body>, Error> {
        let keys = self.keys()?;
        let id = signature::id(invocation);
        let timestamp = self.ctx.clock.now().as_millis() / 1000;
        let signature = signature::sign(&keys, &id, timestamp, &message.body);
        let length = message.body.len();
        let mut request = Request::new(Body::full(message.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.path.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(message.kind));
        let agent = concat!("tangelo/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
        let mut texts = vec![(ID, id), (SIGNATURE, signature)];
        if let Some(span) = invocation.trace.parent {
            texts.push((TRACEPARENT, invocation.trace.traceparent(span)));
        }
        for (name, text) in texts {
            let value = HeaderValue::try_from(text).map_err(Error::internal)?;
            headers.insert(name, value);
        }
        Ok(request)
    }

    /// The keys of this moment: secrets are read again while the server runs.
    fn keys(&self) -> Result<Vec<Key>, Error> {
        let names = self.webhook.secrets.iter();
        names
            .map(|name| {
                let secret = self.ctx.host.secret(self.spec.version, name);
                let unusable = |problem: &str| {
                    let message = format!("the secret {name}, which signs webhooks, {problem}");
                    Error::new(code::SIGNING_SECRET, message).retry_after(NO_SECRET)
                };
                let secret = secret.ok_or_else(|| unusable("is not among this server's"))?;
                Key::parse(&secret).map_err(unusable)
            })
            .collect()
    }

    /// The beginning of an answer: what is too long or too slow is left, and costs the connection.
    async fn some_of(&self, body: Body, invocation: &Invocation) -> Bytes {
        let now = self.ctx.clock.monotonic();
        let left = invocation.deadline.saturating_duration_since(now);
        let timer = pin!(self.ctx.clock.sleep(left));
        match select(pin!(body.collect(ANSWER)), timer).await {
            Either::Left((Ok(bytes), _)) => bytes,
            _ => Bytes::new(),
        }
    }

    /// Says whether the endpoint is one, and whether what signs is a secret where it is there; whether somebody answers
    /// is for the first delivery to find out.
    ///
    /// # Errors
    /// What is wrong with either.
    pub async fn warm(self: &Arc<Self>) -> Result<(), Error> {
        self.endpoint.as_ref().map(drop).map_err(Clone::clone)?;
        let there = |name: &String| self.ctx.host.secret(self.spec.version, name).is_some();
        match self.webhook.secrets.iter().all(there) {
            true => self.keys().map(drop),
            false => Ok(()),
        }
    }

    /// What it says about itself: no instance is ours.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            failures: self.failures.load(Relaxed),
            ..PoolStats::default()
        }
    }

    /// Waits for the requests under way, up to `grace`.
    pub async fn drain(&self, grace: Duration) {
        self.flights.drain(&self.ctx.clock, grace).await;
    }
}

fn endpoint(ctx: &Context, spec: &Spec, webhook: &Webhook) -> Result<Endpoint, String> {
    let url: Uri = webhook.url.parse().map_err(|_| "its URL is none")?;
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err("its URL is none".to_owned());
    };
    let trust = match &webhook.ca {
        None => None,
        Some(path) => {
            let read = certificates(&spec.folder.join(path)).and_then(|pem| trust::in_pem(&pem));
            Some(read.map_err(|problem| format!("{path}: {problem}"))?)
        }
    };
    let origin = format!("{scheme}://{authority}");
    let origin = Origin::vetted(&origin, spec.workload.egress.clone(), trust);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    Ok(Endpoint {
        upstream: Upstream::new(origin.map_err(|e| e.to_string())?, ctx.clock.clone()),
        path: path.parse().map_err(|_| "its path is none")?,
    })
}

/// Certificates that come with an app.
///
/// # Errors
/// When they cannot be read, or are too many.
pub fn certificates(path: &Path) -> std::io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.len() > CERTIFICATES {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    std::fs::read(path)
}

/// An event in structured mode (CloudEvents HTTP binding 1.0.2, section 3.2), a batch of them, or what was made of one.
fn message(input: Input) -> Result<Message, Error> {
    let json = |value: Value| Bytes::from(value.to_string());
    match input {
        Input::Event(event) => Ok(Message {
            body: json(event.to_json()),
            kind: "application/cloudevents+json",
        }),
        Input::Events(events) => Ok(Message {
            body: json(events.iter().map(|event| event.to_json()).collect()),
            kind: "application/cloudevents-batch+json",
        }),
        Input::Payload(payload) => Ok(Message {
            body: payload,
            kind: "application/json",
        }),
        Input::Http(_) | Input::Stream(_) => Err(Error::new(
            code::INPUT_NOT_SUPPORTED,
            "a webhook takes events and plain JSON, no requests",
        )),
    }
}

#[cfg(test)]
mod tests {
    use model::{BreakerTerms, Time};

    use super::*;

    #[test]
    fn an_endpoint_has_one_breaker_and_no_other_endpoint_has_it() {
        let terms = BreakerTerms {
            failures: 1,
            wait: Duration::from_secs(10),
            max_wait: Duration::from_secs(10),
        };
        let (endpoints, now) = (Endpoints::default(), Time::from_millis(1_000_000));
        let bad = endpoints.breaker("https://bad.example/in");
        let good = endpoints.breaker("https://good.example/in");
        let elsewhere = endpoints.breaker("https://bad.example/other");
        bad.hear(Said::Ill("answered 500".to_owned()), terms, now);
        assert!(bad.enter(now).is_err());
        assert_eq!((good.enter(now), elsewhere.enter(now)), (Ok(()), Ok(())));
        // A second subscription to the same, or the next revision of the first, finds it open.
        let same = endpoints.breaker("https://bad.example/in");
        assert!(same.enter(now).is_err());
        drop((bad, same));
        let forgotten = endpoints.breaker("https://bad.example/in");
        assert_eq!(forgotten.enter(now), Ok(()), "nobody posted to it");
    }
}
