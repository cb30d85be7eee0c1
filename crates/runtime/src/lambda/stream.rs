//! Replies that are streamed: read piece by piece, no faster than whoever asked takes them.
//!
//! An HTTP caller gets its head with the first bytes, so that a handler that fails before them is an error and not a
//! broken body. Whoever asked with a payload or an event gets the whole reply, as on AWS.

use std::{sync::Arc, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::StreamBody;
use model::{Error, InvocationId};
use tokio::sync::{mpsc, oneshot};

use super::{
    instance::{Answer, Instance, Streamed},
    payload::http_reply::{self, BadReply, MAX_PRELUDE, OCTETS},
    pool::Pool,
    reply::{self, Ended, Facts, Kind},
    run,
};
use crate::{
    body::{Body, BodyError},
    call::{Inferred, LOG_TAIL, Meter},
};

/// The content type that says that the reply begins with its status and headers as JSON, and 8 NUL bytes
/// (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming>).
const INTEGRATION: &str = "application/vnd.awslambda.http-integration-response";
/// What stands between metadata and body.
const DELIMITER: [u8; 8] = [0; 8];

/// A streamed reply in the hands of its reader. Dropping it lets the handler go on without one.
pub(crate) struct Reading {
    pieces: mpsc::Receiver<Bytes>,
    end: oneshot::Receiver<Option<Answer>>,
    pool: Arc<Pool>,
    instance: Arc<Instance>,
    id: InvocationId,
    began: Instant,
    /// When the caller's time is over.
    until: Instant,
    meter: Arc<Meter>,
}

/// Whose reply it is, and for how long anybody waits.
pub(crate) struct Terms {
    pub(crate) pool: Arc<Pool>,
    pub(crate) instance: Arc<Instance>,
    pub(crate) id: InvocationId,
    pub(crate) began: Instant,
    pub(crate) deadline: Instant,
    pub(crate) meter: Arc<Meter>,
}

impl Reading {
    /// Begins to read `streamed`; returns what the client says that it is, too.
    pub(crate) fn new(terms: Terms, streamed: Streamed) -> (Self, Option<String>) {
        let kill_at = terms.began + terms.pool.spec.workload.timeout;
        let clock = &terms.pool.context.clock;
        let reading = Self {
            pieces: streamed.pieces,
            end: run::watch(&terms.instance, terms.id, clock, streamed.end, kill_at),
            until: terms.deadline.min(kill_at),
            began: terms.began,
            pool: terms.pool,
            instance: terms.instance,
            id: terms.id,
            meter: terms.meter,
        };
        (reading, streamed.content_type)
    }

    /// The next piece, or how the run ended.
    async fn next(&mut self) -> Result<Bytes, Ended> {
        let clock = &self.pool.context.clock;
        let left = self.until.saturating_duration_since(clock.monotonic());
        let timeout = self.pool.spec.workload.timeout;
        let began = self.began;
        let took = || (clock.monotonic() - began).min(timeout);
        let next = async {
            match self.pieces.recv().await {
                Some(piece) => Ok(piece),
                // After the last piece the end is near: the client is about to say it, or dead.
                None => Err((&mut self.end).await.unwrap_or(Some(Answer::Died(None)))),
            }
        };
        tokio::select! {
            biased;
            next = next => next.map_err(|answer| answer.map_or_else(
                || Ended::TimedOut(took()),
                Ended::Answered,
            )),
            () = clock.sleep(left) => Err(Ended::TimedOut(took())),
        }
    }

    /// All of it, as if it had been sent in one piece.
    pub(crate) async fn collect(mut self) -> Ended {
        let limit = self.pool.context.limits.sync_payload;
        let mut all = BytesMut::new();
        loop {
            match self.next().await {
                Ok(piece) if (all.len() + piece.len()) as u64 > limit.0 => {
                    return Ended::Answered(Answer::TooLarge);
                }
                Ok(piece) => all.extend_from_slice(&piece),
                Err(Ended::Answered(Answer::Streamed)) => {
                    return Ended::Answered(Answer::Reply(all.freeze()));
                }
                Err(ended) => return ended,
            }
        }
    }

    /// The response whose body is the rest of it.
    pub(crate) async fn respond(
        mut self,
        content_type: Option<String>,
    ) -> Result<Response<Body>, Error> {
        let (head, first) = if content_type.as_deref() == Some(INTEGRATION) {
            self.prelude().await?
        } else {
            self.plain(content_type).await?
        };
        let (parts, ()) = head.into_parts();
        Ok(Response::from_parts(parts, self.body(first)))
    }

    /// The response whose body is the reply as the client sends it, metadata included, and at its end the log's.
    pub(crate) fn respond_unread(self, content_type: Option<String>) -> Response<Body> {
        let instance = Arc::clone(&self.instance);
        let last = futures_util::stream::once(async move {
            let tail = STANDARD.encode(instance.logs.tail());
            let mut trailers = HeaderMap::new();
            trailers.extend(
                HeaderValue::try_from(tail)
                    .ok()
                    .map(|tail| (LOG_TAIL, tail)),
            );
            Ok(Frame::trailers(trailers))
        });
        let frames = self.frames(Bytes::new()).chain(last);
        let mut response = Response::new(Body::stream(StreamBody::new(frames)));
        let kind = content_type.and_then(|kind| HeaderValue::try_from(kind).ok());
        response
            .headers_mut()
            .insert(CONTENT_TYPE, kind.unwrap_or(OCTETS));
        response
    }

    /// Status and headers as the reply says them, and the beginning of the body.
    async fn prelude(&mut self) -> Result<(Response<()>, Bytes), Error> {
        let mut seen = BytesMut::new();
        loop {
            let metadata = seen.windows(DELIMITER.len()).position(|at| at == DELIMITER);
            if let Some(end) = metadata.filter(|end| *end <= MAX_PRELUDE) {
                let head = http_reply::prelude(&seen[..end]).map_err(|bad| self.bad(&bad))?;
                let first = seen.split_off(end + DELIMITER.len());
                return Ok((head, first.freeze()));
            }
            if seen.len() > MAX_PRELUDE {
                return Err(self.bad(&BadReply::NoPrelude));
            }
            match self.next().await {
                Ok(piece) => seen.extend_from_slice(&piece),
                Err(ended) => {
                    let failure = self.failure(ended);
                    return Err(failure.unwrap_or_else(|| self.bad(&BadReply::NoPrelude)));
                }
            }
        }
    }

    /// 200 of the type that the client names, once there is a first piece.
    async fn plain(
        &mut self,
        content_type: Option<String>,
    ) -> Result<(Response<()>, Bytes), Error> {
        let first = match self.next().await {
            Ok(piece) => piece,
            Err(ended) => match self.failure(ended) {
                Some(error) => return Err(error),
                None => Bytes::new(),
            },
        };
        let mut head = Response::new(());
        head.extensions_mut().insert(Inferred);
        let kind = content_type.and_then(|kind| HeaderValue::try_from(kind).ok());
        head.headers_mut()
            .insert(CONTENT_TYPE, kind.unwrap_or(OCTETS));
        Ok((head, first))
    }

    fn body(self, first: Bytes) -> Body {
        Body::stream(StreamBody::new(self.frames(first)))
    }

    /// `first`, then every piece as it comes. One that fails late breaks off.
    fn frames(self, first: Bytes) -> impl Stream<Item = Result<Frame<Bytes>, BodyError>> + Send {
        let begin = Some((self, Some(first).filter(|first| !first.is_empty())));
        futures_util::stream::unfold(begin, async |state| {
            let (mut reading, first) = state?;
            if let Some(first) = first {
                return Some((Ok(Frame::data(first)), Some((reading, None))));
            }
            match reading.next().await {
                Ok(piece) => Some((Ok(Frame::data(piece)), Some((reading, None)))),
                Err(ended) => {
                    let error = reading.failure(ended)?;
                    reading.meter.fail(error.clone());
                    Some((Err(BodyError::Workload(error)), None))
                }
            }
        })
    }

    /// The error for an end that is one.
    fn failure(&self, ended: Ended) -> Option<Error> {
        if matches!(ended, Ended::TimedOut(_)) {
            self.instance.logs.catch_up();
        }
        let failed = reply::outcome(ended, &self.facts()).err();
        failed.map(|(_, error)| error)
    }

    fn bad(&self, bad: &BadReply) -> Error {
        reply::bad_reply(bad, &self.facts())
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            kind: Kind::Http,
            spec: &self.pool.spec,
            id: self.id,
            limit: self.instance.stream_limit,
            meter: &self.meter,
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.instance.used(&self.meter);
    }
}
