//! What callers get for what handlers and instances did: a response, or an error, by the kind of input.
//!
//! Whoever sent a plain payload reads failures as AWS's error objects; HTTP and events get coded errors, so that the
//! gateway answers with a problem and deliveries are retried.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use model::{ByteSize, Error, InvocationId, Run, app::LambdaPayload, code};

use super::{
    environment::VERSION,
    instance::Answer,
    logs::TAIL,
    payload::{
        failure,
        http_reply::{self, BadReply},
    },
    start::{INIT_LIMIT, StartFailure},
};
use crate::{
    body::Body,
    call::{FunctionError, LogTail, Meter},
    pool::{Spec, out_of_memory},
};

/// What kind of input an invocation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    Event,
    Payload,
}

/// What became of a run.
pub(crate) enum Ended {
    /// The instance answered, or died.
    Answered(Answer),
    /// It did not answer for so long.
    TimedOut(Duration),
}

/// What the reply is made from, beside what became of the run.
pub(crate) struct Facts<'a> {
    pub(crate) kind: Kind,
    pub(crate) spec: &'a Spec,
    pub(crate) id: InvocationId,
    pub(crate) limit: ByteSize,
    /// Told of failures that come as a response.
    pub(crate) meter: &'a Meter,
}

/// The response or error for a run that ended like this.
pub(crate) fn reply(ended: Ended, facts: &Facts<'_>) -> Result<Response<Body>, Error> {
    match outcome(ended, facts) {
        Ok(body) => replied(body, facts),
        Err((object, error)) => failed(object, error, facts),
    }
}

/// The reply of a run that ended like this, or how it failed: AWS's error object, and the error.
pub(crate) fn outcome(ended: Ended, facts: &Facts<'_>) -> Result<Bytes, (Bytes, Error)> {
    let name = &facts.spec.workload.name;
    Err(match ended {
        Ended::Answered(Answer::Reply(body)) => return Ok(body),
        // What was streamed was passed on already.
        Ended::Answered(Answer::Streamed) => return Ok(Bytes::new()),
        Ended::Answered(Answer::Error(body, kind)) => {
            let object = failure::posted(body, kind.as_deref());
            let context = failure::describe(&object);
            (
                object,
                Error::new(
                    code::FUNCTION_ERROR,
                    format!("the handler of `{name}` raised an error"),
                )
                .context(context),
            )
        }
        Ended::Answered(Answer::TooLarge) => {
            let message = format!("the reply of `{name}` is larger than {}", facts.limit);
            (
                failure::reply_too_large(facts.limit),
                Error::new(code::BAD_REPLY, message),
            )
        }
        Ended::Answered(Answer::Died(exit)) => {
            let error = if exit.is_some_and(|exit| exit.out_of_memory) {
                out_of_memory(&facts.spec.workload)
            } else {
                let message = format!("an instance of `{name}` ended while it worked");
                Error::new(code::INSTANCE_DIED, message)
            };
            let error = error.context(failure::exit_text(exit));
            (failure::exited(facts.id, exit), error)
        }
        Ended::Answered(Answer::Extension(object)) => {
            let message = format!("an extension of `{name}` failed, and ended its instance");
            let error = Error::new(code::INSTANCE_DIED, message);
            let error = error.context(failure::describe(&object));
            (object, error)
        }
        Ended::Answered(Answer::Overflowed(limit)) => {
            let message = format!("an instance of `{name}` filled its TMPDIR and was ended");
            let error = Error::new(code::INSTANCE_DIED, message);
            let error = error.context(format!("it held more than {limit}"));
            (failure::overflowed(Some(facts.id), limit), error)
        }
        Ended::TimedOut(after) => {
            let seconds = after.as_secs_f64();
            let message = format!("`{name}` did not answer within {seconds:.2} seconds");
            (
                failure::timed_out(facts.id, seconds),
                Error::new(code::WORKLOAD_TIMEOUT, message),
            )
        }
    })
}

/// The response or error when there was no instance.
pub(crate) fn not_started(
    failed_start: &StartFailure,
    facts: &Facts<'_>,
) -> Result<Response<Body>, Error> {
    let error = start_failure(facts.spec, failed_start);
    let object = match failed_start {
        StartFailure::Refused(_) => return Err(error),
        StartFailure::Reported(object) => object.clone(),
        StartFailure::Exited(exit, _) => failure::exited(facts.id, *exit),
        StartFailure::TimedOut => failure::init_timed_out(facts.id, INIT_LIMIT.as_secs_f64()),
    };
    failed(object, error, facts)
}

/// A failed start as an error.
pub(crate) fn start_failure(spec: &Spec, failed_start: &StartFailure) -> Error {
    let name = &spec.workload.name;
    match failed_start {
        StartFailure::Refused(error) => error.clone(),
        StartFailure::Reported(object) => {
            let what = failure::describe(object);
            Error::new(
                code::START_FAILED,
                format!("the handler of `{name}` cannot be loaded"),
            )
            .context(what)
        }
        StartFailure::Exited(exit, tail) => {
            let message = format!("an instance of `{name}` ended before it was ready");
            let end = failure::exit_text(*exit);
            let tail = String::from_utf8_lossy(tail);
            let error = if exit.is_some_and(|exit| exit.out_of_memory) {
                out_of_memory(&spec.workload)
            } else {
                Error::new(code::START_FAILED, message)
            };
            error.context(format!("{end}\n{}", tail.trim_end()))
        }
        StartFailure::TimedOut => {
            let limit = INIT_LIMIT.as_secs();
            let message = format!("an instance of `{name}` was not ready within {limit} seconds");
            Error::new(code::START_FAILED, message)
        }
    }
}

fn failed(object: Bytes, error: Error, facts: &Facts<'_>) -> Result<Response<Body>, Error> {
    match facts.kind {
        Kind::Http | Kind::Event => Err(error),
        Kind::Payload => {
            facts.meter.fail(error);
            let mut response = json(object);
            response.extensions_mut().insert(FunctionError("Unhandled"));
            Ok(response)
        }
    }
}

fn replied(body: Bytes, facts: &Facts<'_>) -> Result<Response<Body>, Error> {
    match facts.kind {
        Kind::Http => {
            http_reply::response(&body, format(facts.spec)).map_err(|bad| bad_reply(&bad, facts))
        }
        Kind::Event | Kind::Payload => Ok(json(body)),
    }
}

/// Which of AWS's front doors the handler is written for.
pub(crate) fn format(spec: &Spec) -> LambdaPayload {
    match &spec.workload.run {
        Run::Lambda { payload, .. } => *payload,
        _ => LambdaPayload::default(),
    }
}

/// What the caller is told of a reply that is no HTTP reply.
pub(crate) fn bad_reply(bad: &BadReply, facts: &Facts<'_>) -> Error {
    let name = &facts.spec.workload.name;
    let message = format!("the reply of `{name}` is no HTTP reply: {bad}");
    Error::new(code::BAD_REPLY, message)
}

fn json(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Puts the end of the invocation's log on its response, between the lines that AWS puts around it.
pub(crate) fn with_tail(
    response: &mut Response<Body>,
    log: &[u8],
    took: Duration,
    facts: &Facts<'_>,
) {
    if facts.kind != Kind::Payload {
        return;
    }
    let (id, millis) = (facts.id, took.as_secs_f64() * 1e3);
    let start = format!("START RequestId: {id} Version: {VERSION}\n");
    let end = format!(
        "END RequestId: {id}\nREPORT RequestId: {id}\tDuration: {millis:.2} ms\tBilled Duration: {} ms\t\
         Memory Size: {} MB\tMax Memory Used: {} MB\t\n",
        millis.ceil(),
        facts.spec.workload.memory.0 >> 20,
        facts.meter.memory() >> 20,
    );
    let whole = [start.as_bytes(), log, end.as_bytes()].concat();
    let from = whole.len().saturating_sub(TAIL);
    response
        .extensions_mut()
        .insert(LogTail(Bytes::from(whole).slice(from..)));
}
