//! Publishing events: who may, on whose behalf, and into the log.
//!
//! Walk 2 begins here: checked, then appended by `bus` with one fsync for many. Nothing else happens at publish time.

mod coding;
mod contracts;
pub(crate) mod http_binding;
mod publisher;
pub(crate) mod relayed;

pub(crate) use contracts::edited;

use std::sync::Arc;

use bus::{Bus, Published};
use contract::pin;
use http::{Request, Response};
use model::{
    AppName, Category, Cause, Class, Clock, Code, Error, Event, Ids, Limits, Name, Namespace,
    Principal, TraceContext, code, event::MAX_EXTENSIONS,
};
pub use publisher::{Message, Publisher, Who, told};
use runtime::{Body, Caller};
use serde::Serialize;

use crate::{
    apps::Apps,
    dispatch::Buffers,
    streams,
    versions::{Versions, declares},
};

/// Who publishes.
pub enum Origin {
    /// A client of the gateway or the CLI.
    Outside {
        /// The app whose route it came through; `None`: the CLI.
        app: Option<AppName>,
        /// The trace that it belongs to.
        trace: TraceContext,
        /// On whose behalf.
        principals: Vec<Principal>,
    },
    /// Somebody outside who has a key of an app.
    Key {
        /// The app.
        app: AppName,
        /// The key's name.
        name: Name,
        /// What it may publish.
        publishes: Vec<String>,
        /// The trace that it belongs to.
        trace: TraceContext,
    },
    /// A workload, over the mesh or in-process.
    Workload(Caller, TraceContext),
}

/// The publishing side of the bus. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    pub(crate) apps: Arc<Apps>,
    pub(crate) versions: Versions,
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) limits: Limits,
    pub(crate) buffers: Buffers,
}

/// What became of one event of a publish.
pub type Receipt = Result<Published, Error>;

impl Events {
    /// Publishes `events`. A bad one is refused and costs the others nothing; accepted means fsynced.
    pub async fn publish(
        &self,
        origin: &Origin,
        events: Vec<Result<Event, Error>>,
    ) -> Vec<Receipt> {
        let cause = self.cause(origin);
        let events = events.into_iter().map(|event| {
            let checked = event.and_then(|event| self.check(origin, event))?;
            Ok((checked, cause.clone()?))
        });
        self.append(origin, events.collect()).await
    }

    /// Appends what was checked to the log, in this order, and has a receipt for what was refused, too.
    async fn append(
        &self,
        origin: &Origin,
        events: Vec<Result<(Event, Cause), Error>>,
    ) -> Vec<Receipt> {
        let mut good = Vec::with_capacity(events.len());
        let refused: Vec<Option<Error>> = events
            .into_iter()
            .map(|event| event.map(|event| good.push(event)).err())
            .collect();
        let namespace = namespace(origin);
        let published = self.bus.publish_for(home(origin), &namespace, good);
        let mut receipts = published.await.into_iter();
        let missing = || {
            Err(Error::internal(
                "the bus answered for fewer events than it got",
            ))
        };
        refused
            .into_iter()
            .map(|refused| match refused {
                Some(error) => Err(error),
                None => receipts.next().unwrap_or_else(missing),
            })
            .collect()
    }

    /// Publishes what an HTTP request carries (CloudEvents HTTP binding 1.0.2: binary, structured or batch), and answers it.
    ///
    /// # Errors
    /// Why the request as a whole was refused: nothing of it was published.
    pub async fn publish_http(
        &self,
        origin: Origin,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let events = http_binding::read(request, &self.limits, self).await?;
        answer(&self.publish(&origin, events).await)
    }

    pub(crate) fn check(&self, origin: &Origin, event: Event) -> Result<Event, Error> {
        event
            .check()
            .map_err(|e| Error::new(code::BAD_EVENT, e.to_string()))?;
        if let Origin::Workload(caller, _) = origin {
            self.versions
                .get(caller.presence.version)?
                .may_publish(&event.kind)?;
        }
        if let Origin::Key {
            app,
            name,
            publishes,
            ..
        } = origin
            && !declares(publishes, &event.kind)
        {
            let message = format!(
                "the key `{name}` of `{app}` may not publish `{}`: add it to the key's `publishes`",
                event.kind
            );
            return Err(Error::new(code::KEY_FORBIDS, message));
        }
        let event = without_ours(event);
        if event.extensions.len() > MAX_EXTENSIONS {
            let many = event.extensions.len();
            let message =
                format!("the event has {many} extension attributes; {MAX_EXTENSIONS} is the most");
            return Err(Error::new(code::BAD_EVENT, message));
        }
        contracts::check(&self.apps.live(), home(origin), event)
    }

    /// What is stored beside the events: the same for all events of one publish.
    pub(crate) fn cause(&self, origin: &Origin) -> Result<Cause, Error> {
        let cause = match origin {
            Origin::Outside {
                trace, principals, ..
            } => Cause::first(principals.clone(), *trace),
            Origin::Key {
                app, name, trace, ..
            } => {
                let user = Principal::User(format!("key {app}/{name}").into());
                Cause::first(vec![user], *trace)
            }
            Origin::Workload(Caller { working, presence }, trace) => {
                let workload = format!("{}/{}", presence.app, presence.workload);
                let workload = Principal::Workload(workload.into());
                match working {
                    None => Cause::first(vec![workload], *trace),
                    Some(working) => {
                        let mut cause = working.0.cause(Class::Async);
                        cause.trace = *trace;
                        cause.idempotency_key = None;
                        cause.principals.push(workload);
                        cause
                    }
                }
            }
        };
        self.not_too_deep(cause)
    }

    /// # Errors
    /// `TOO_DEEP` when the chain that `cause` goes on with is.
    fn not_too_deep(&self, cause: Cause) -> Result<Cause, Error> {
        let most = self.limits.chain_depth;
        if cause.depth <= most {
            return Ok(cause);
        }
        let message = format!(
            "the chain of events and calls is deeper than {most}: does an event cause itself?"
        );
        Err(Error::new(code::TOO_DEEP, message))
    }
}

/// The event without what only Tangelo says of events: who publishes one that it was given copies that, and who would say
/// that an event is a replay, a stream's, or checked, is not believed.
fn without_ours(mut event: Event) -> Event {
    let is_ours = |name: &str| {
        name.starts_with("tangelo") || [pin::ATTRIBUTE, streams::VERSION].contains(&name)
    };
    event.extensions.retain(|name, _| !is_ours(name));
    event
}

/// The app on whose side an event is published.
pub(crate) fn home(origin: &Origin) -> Option<&AppName> {
    match origin {
        Origin::Outside { app, .. } => app.as_ref(),
        Origin::Key { app, .. } => Some(app),
        Origin::Workload(caller, _) => Some(&caller.presence.app),
    }
}

fn namespace(origin: &Origin) -> Namespace {
    match origin {
        Origin::Outside { .. } | Origin::Key { .. } => Name::default_namespace(),
        Origin::Workload(caller, _) => caller.presence.namespace.clone(),
    }
}

/// 202 when at least one event was accepted; else the status of the first refusal.
fn answer(receipts: &[Receipt]) -> Result<Response<Body>, Error> {
    let first_refusal = receipts.iter().find_map(|r| r.as_ref().err());
    if let Some(error) = first_refusal.filter(|_| receipts.iter().all(Result::is_err))
        && (receipts.len() == 1 || error.category != Category::Invalid)
    {
        return Err(error.clone());
    }
    let events: Vec<Row<'_>> = receipts.iter().map(Row::of).collect();
    let accepted = receipts.iter().filter(|r| r.is_ok()).count();
    // An empty batch is one (JSON Format 1.0.2, section 4.3), and all of it is accepted.
    let status = if accepted > 0 || receipts.is_empty() {
        http::StatusCode::ACCEPTED
    } else {
        http::StatusCode::BAD_REQUEST
    };
    let body = serde_json::to_vec(&Receipts { accepted, events }).map_err(Error::internal)?;
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

/// The body of an answer.
#[derive(Serialize)]
struct Receipts<'a> {
    accepted: usize,
    events: Vec<Row<'a>>,
}

/// What became of one event, in the order of the request.
#[derive(Serialize)]
#[serde(untagged)]
enum Row<'a> {
    Accepted(&'a Published),
    Refused { code: Code, refused: &'a str },
}

impl<'a> Row<'a> {
    fn of(receipt: &'a Receipt) -> Self {
        match receipt {
            Ok(published) => Self::Accepted(published),
            Err(error) => Self::Refused {
                code: error.code,
                refused: &error.message,
            },
        }
    }
}
