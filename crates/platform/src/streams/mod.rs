//! Event sourcing: the events of one subject of an app, numbered, appended where their writer believes the stream to be, and
//! read again from a number or from a snapshot. What is appended is published: contracts, subscriptions and all the rest hold.

mod http_binding;
pub mod wire;
#[cfg(test)]
mod wire_law;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use model::{
    AppName, Error, Event, Name, Namespace, Principal, TraceContext, code, keyvalue::Access,
};
use runtime::Caller;
use store::log::{Appended, Log, NewEvent, Snapshot, StreamHead, StreamKey, StreamPage};

use crate::{
    events::{Events, Origin},
    versions::Known,
};

/// The extension attribute that says which number an event has in its stream.
pub const VERSION: &str = "streamversion";

/// How often an append without an expectation is tried again when others come first.
const TRIES: u32 = 100;
/// How many appends without an expectation go on beside each other: those of one stream take turns.
const TURNS: u64 = 64;

/// Streams of events. Cheap to clone.
#[derive(Clone)]
pub struct Streams {
    log: Log,
    events: Events,
    turns: Arc<Vec<tokio::sync::Mutex<()>>>,
}

/// On whose behalf a stream is used.
pub(crate) enum User<'a> {
    /// A running instance, as far as its manifest says.
    Workload(&'a Caller, TraceContext),
    /// An operator, in this app.
    Operator(&'a AppName, TraceContext),
}

/// What became of an append.
pub(crate) enum Outcome {
    /// Each event with its number.
    Done(Vec<(u64, Appended)>),
    /// Nothing was appended: the stream is at this version.
    At(u64),
}

impl Streams {
    pub(crate) fn new(log: Log, events: Events) -> Self {
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::default());
        Self {
            log,
            events,
            turns: Arc::new(turns.collect()),
        }
    }

    /// Appends events, all or none; with `expected` only when that is the number of the stream's last event.
    ///
    /// # Errors
    /// The first event that is refused, and why; `STREAM_CONFLICT` when some of them were published before; those of the store.
    async fn append(
        &self,
        user: &User<'_>,
        subject: &str,
        expected: Option<u64>,
        events: Vec<Result<Event, Error>>,
    ) -> Result<Outcome, Error> {
        let events = self.checked(user, subject, events)?;
        let (namespace, key) = self.key(user, subject, Access::Write)?;
        if let Some(expected) = expected {
            return self
                .append_at(user, &namespace, &key, expected, events)
                .await;
        }
        let mut hash = DefaultHasher::new();
        (key.app.as_str(), subject).hash(&mut hash);
        let turn = usize::try_from(hash.finish() % TURNS).unwrap_or_default();
        let _turn = self.turns[turn].lock().await;
        for _ in 0..TRIES {
            let page = self.log.stream(&namespace, key.clone(), 1, 0).await?;
            let at = page.map_or(0, |page| page.head.version);
            let appended = self.append_at(user, &namespace, &key, at, events.clone());
            if let Outcome::Done(done) = appended.await? {
                return Ok(Outcome::Done(done));
            }
        }
        let message = format!("others append to `{subject}` all the time; try again");
        Err(Error::new(code::STORE_BUSY, message))
    }

    async fn append_at(
        &self,
        user: &User<'_>,
        namespace: &Namespace,
        key: &StreamKey,
        expected: u64,
        events: Vec<Event>,
    ) -> Result<Outcome, Error> {
        let cause = Arc::new(self.events.cause(&user.origin())?);
        let limit = self.events.limits.event;
        let mut new = Vec::with_capacity(events.len());
        for (version, mut event) in (expected + 1..).zip(events) {
            event.extensions.insert(VERSION.to_owned(), version.into());
            event
                .check()
                .map_err(|invalid| Error::new(code::BAD_EVENT, invalid.to_string()))?;
            let one = NewEvent::new(Arc::new(event), Arc::clone(&cause));
            let one = one.of(Some(key.app.clone()));
            if one.size() > limit.0 {
                let message = format!("an event has {} bytes; {limit} is the most", one.size());
                return Err(Error::new(code::PAYLOAD_TOO_LARGE, message));
            }
            new.push(one);
        }
        let appended = self
            .log
            .append_to_stream(namespace, key.clone(), expected, new)
            .await;
        match appended {
            Ok(done) => Ok(Outcome::Done(done)),
            Err(store::Error::Version(actual)) => Ok(Outcome::At(actual)),
            Err(store::Error::Conflict(why)) => Err(Error::new(code::STREAM_CONFLICT, why)),
            Err(error) => Err(error.into()),
        }
    }

    /// Events that are fit to be published, of this subject. One that is not refuses them all.
    fn checked(
        &self,
        user: &User<'_>,
        subject: &str,
        events: Vec<Result<Event, Error>>,
    ) -> Result<Vec<Event>, Error> {
        if events.is_empty() {
            return Err(Error::new(code::BAD_EVENT, "there is nothing to append"));
        }
        let origin = user.origin();
        let check = |event: Result<Event, Error>| {
            let mut event = event?;
            let said = event.subject.get_or_insert_with(|| subject.to_owned());
            if said != subject {
                let message = format!(
                    "the event `{}` has the subject `{said}`, and the stream is that of `{subject}`",
                    event.id
                );
                return Err(Error::new(code::BAD_EVENT, message));
            }
            if event.extensions.contains_key(VERSION) {
                let message = format!("`{VERSION}` is set by the stream, not by who appends");
                return Err(Error::new(code::BAD_EVENT, message));
            }
            self.events.check(&origin, event)
        };
        events.into_iter().map(check).collect()
    }

    /// Events of a stream from a number on.
    async fn read(
        &self,
        user: &User<'_>,
        subject: &str,
        from: u64,
        limit: u32,
    ) -> Result<StreamPage, Error> {
        let (namespace, key) = self.key(user, subject, Access::Read)?;
        let page = self.log.stream(&namespace, key, from, limit).await?;
        page.ok_or_else(|| no_stream(user, subject))
    }

    async fn list(
        &self,
        user: &User<'_>,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<StreamHead>, Error> {
        let (namespace, key) = self.key(user, "", Access::Read)?;
        let listed = self.log.streams(&namespace, &key.app, prefix, after, limit);
        Ok(listed.await?)
    }

    async fn snapshot(&self, user: &User<'_>, subject: &str) -> Result<Option<Snapshot>, Error> {
        let (namespace, key) = self.key(user, subject, Access::Read)?;
        Ok(self.log.snapshot(&namespace, key).await?)
    }

    async fn put_snapshot(
        &self,
        user: &User<'_>,
        subject: &str,
        snapshot: Snapshot,
    ) -> Result<Option<u64>, Error> {
        let (namespace, key) = self.key(user, subject, Access::Write)?;
        let put = self.log.put_snapshot(&namespace, key, snapshot).await;
        match put {
            Ok(()) => Ok(None),
            Err(store::Error::Version(actual)) => Ok(Some(actual)),
            Err(store::Error::NotFound(_)) => Err(no_stream(user, subject)),
            Err(store::Error::Conflict(why)) => Err(Error::new(code::STREAM_CONFLICT, why)),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes events out of a stream, chunk by chunk; the version of a stream that has not come that far.
    async fn truncate(
        &self,
        user: &User<'_>,
        subject: &str,
        through: u64,
    ) -> Result<Option<u64>, Error> {
        let (namespace, key) = self.key(user, subject, Access::Write)?;
        loop {
            let taken = self
                .log
                .truncate_stream(&namespace, key.clone(), through)
                .await;
            match taken {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(store::Error::Version(actual)) => return Ok(Some(actual)),
                Err(store::Error::NotFound(_)) => return Err(no_stream(user, subject)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The stream of a subject, if `user` may do that with it.
    fn key(
        &self,
        user: &User<'_>,
        subject: &str,
        access: Access,
    ) -> Result<(Namespace, StreamKey), Error> {
        let (namespace, app) = match user {
            User::Operator(app, _) => (Name::default_namespace(), (*app).clone()),
            User::Workload(caller, _) => {
                let presence = &caller.presence;
                let known = self.events.versions.get(presence.version)?;
                known.may_use_streams(access)?;
                (presence.namespace.clone(), presence.app.clone())
            }
        };
        let subject = subject.to_owned();
        Ok((namespace, StreamKey { app, subject }))
    }
}

impl User<'_> {
    fn origin(&self) -> Origin {
        match self {
            Self::Workload(caller, trace) => Origin::Workload((*caller).clone(), *trace),
            Self::Operator(app, trace) => Origin::Outside {
                app: Some((*app).clone()),
                trace: *trace,
                principals: vec![Principal::Operator],
            },
        }
    }

    fn app(&self) -> &AppName {
        match self {
            Self::Workload(caller, _) => &caller.presence.app,
            Self::Operator(app, _) => app,
        }
    }
}

fn no_stream(user: &User<'_>, subject: &str) -> Error {
    let message = format!("`{}` has no stream of `{subject}`", user.app());
    Error::new(code::NO_SUCH_STREAM, message)
}

impl Known {
    /// Whether it declared that it uses the streams of its app so.
    ///
    /// # Errors
    /// `STREAMS_NOT_DECLARED`, with what to add to the manifest.
    pub fn may_use_streams(&self, access: Access) -> Result<(), Error> {
        let why = match (self.workload.streams, access) {
            (Some(Access::Write), _) | (Some(Access::Read), Access::Read) => return Ok(()),
            (Some(Access::Read), _) => {
                "may only read streams: say `streams` without `read` in its `state:`"
            }
            (None, _) => "does not declare that it uses streams: add `streams` to its `state:`",
        };
        let message = format!("`{}/{}` {why}", self.app, self.workload.name);
        Err(Error::new(code::STREAMS_NOT_DECLARED, message))
    }
}
