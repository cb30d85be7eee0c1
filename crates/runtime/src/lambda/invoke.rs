//! One call of a Lambda workload: payload in, an instance, the run, the reply.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::Response;
use model::{ByteSize, Error, Invocation, Trigger, app::LambdaPayload, code};

use super::{
    instance::{Instance, Progress},
    payload::{self, alb_event, eventbridge, http_event, rest_event},
    pool::Pool,
    protocol::{self, Metadata},
    reply::{self, Ended, Facts, Kind},
    run::Run,
    start::StartFailure,
    stream::{Reading, Terms},
};
use crate::{
    body::{Body, BodyError},
    call::{Input, Meter, Ran},
};

impl Pool {
    /// Runs one invocation: waits for an instance, hands over the payload, and gives back the whole answer.
    pub async fn invoke(self: &Arc<Self>, invocation: Arc<Invocation>, input: Input) -> Ran {
        let meter = Arc::new(Meter::default());
        let response = Box::pin(self.answer(&invocation, input, &meter)).await;
        if let Err(error) = &response {
            meter.fail(error.clone());
        }
        Ran { response, meter }
    }

    async fn answer(
        self: &Arc<Self>,
        invocation: &Arc<Invocation>,
        input: Input,
        meter: &Arc<Meter>,
    ) -> Result<Response<Body>, Error> {
        let kind = match &input {
            Input::Http(_) => Kind::Http,
            Input::Event(_) | Input::Events(_) => Kind::Event,
            Input::Payload(_) | Input::Stream(_) => Kind::Payload,
        };
        let in_pieces = matches!(input, Input::Stream(_));
        let limit = self.context.limits.sync_payload;
        let facts = Facts {
            kind,
            spec: &self.spec,
            id: invocation.id,
            limit,
            meter,
        };
        let payload = self.payload(input, invocation).await?;
        if payload.len() as u64 > limit.0 {
            return Err(too_large(limit));
        }
        let (instance, mut run) = match self.begin(invocation, payload, kind, meter).await {
            Ok(begun) => begun,
            Err(failure) => return reply::not_started(&failure, &facts),
        };
        let clock = &self.context.clock;
        let began = clock.monotonic();
        let answer = run.answer(invocation.deadline).await;
        let ended = match answer {
            Some(Progress::Ended(answer)) => Ended::Answered(answer),
            Some(Progress::Streams(streamed)) => {
                let terms = Terms {
                    pool: Arc::clone(self),
                    instance: Arc::clone(&instance),
                    id: invocation.id,
                    began,
                    deadline: invocation.deadline,
                    meter: Arc::clone(meter),
                };
                let (reading, content_type) = Reading::new(terms, streamed);
                if in_pieces {
                    return Ok(reading.respond_unread(content_type));
                }
                if kind == Kind::Http {
                    return reading.respond(content_type).await;
                }
                reading.collect().await
            }
            // Noticed late on a machine that is busy, it was still its timeout that ended it.
            None => Ended::TimedOut((clock.monotonic() - began).min(self.spec.workload.timeout)),
        };
        if matches!(ended, Ended::TimedOut(_)) {
            instance.logs.catch_up();
        }
        let took = clock.monotonic() - began;
        instance.used(meter);
        let log = instance.logs.tail();
        let mut response = reply::reply(ended, &facts)?;
        reply::with_tail(&mut response, &log, took, &facts);
        Ok(response)
    }

    /// Finds an instance that takes the work.
    async fn begin(
        self: &Arc<Self>,
        invocation: &Arc<Invocation>,
        payload: Bytes,
        kind: Kind,
        meter: &Meter,
    ) -> Result<(Arc<Instance>, Run), StartFailure> {
        let clock = &self.context.clock;
        loop {
            let Some(instance) = self.place(invocation, meter).await?.take() else {
                continue;
            };
            let now = clock.monotonic();
            let kill_at = now + self.spec.workload.timeout;
            let left = invocation
                .deadline
                .min(kill_at)
                .saturating_duration_since(now);
            let metadata = self.metadata(invocation, kind, left);
            let begun = Run::begin(
                Arc::clone(&instance),
                clock,
                invocation,
                &metadata,
                payload.clone(),
                kill_at,
            );
            // It may have hung up since it was found free.
            if let Some(run) = begun {
                return Ok((instance, run));
            }
        }
    }

    async fn payload(&self, input: Input, invocation: &Invocation) -> Result<Bytes, Error> {
        let now = self.context.clock.now();
        match input {
            Input::Payload(bytes) | Input::Stream(bytes) => Ok(bytes),
            Input::Event(event) => encoded(&eventbridge::envelope(&event, now)),
            Input::Events(events) => {
                let envelopes = events.iter().map(|event| eventbridge::envelope(event, now));
                encoded(&envelopes.collect::<Vec<_>>())
            }
            Input::Http(request) => {
                let (parts, body) = request.into_parts();
                let limit = self
                    .spec
                    .workload
                    .max_body
                    .min(self.context.limits.sync_payload);
                let body = self.whole(body, limit, invocation.deadline).await?;
                let request_id = invocation.id.to_string();
                let trace = invocation.trace;
                let trace = trace.parent.map(|span| trace.xray(span));
                let function = payload::function_name(&self.spec.app, &self.spec.workload.name);
                let facts = payload::request::Facts {
                    request_id: &request_id,
                    api: invocation.target.app.as_str(),
                    function: &function,
                    trace: trace.as_deref(),
                    route: route(&invocation.trigger),
                    now,
                };
                Ok(Bytes::from(match reply::format(&self.spec) {
                    LambdaPayload::Http => http_event::event(&parts, &body, &facts),
                    LambdaPayload::Rest => rest_event::event(&parts, &body, &facts),
                    LambdaPayload::Alb => alb_event::event(&parts, &body, &facts, false),
                    LambdaPayload::AlbMultiValue => alb_event::event(&parts, &body, &facts, true),
                }))
            }
        }
    }

    /// All of a body, if it comes in time: what came of it takes memory that others wait for.
    async fn whole(&self, body: Body, limit: ByteSize, deadline: Instant) -> Result<Bytes, Error> {
        let clock = &self.context.clock;
        let left = deadline.saturating_duration_since(clock.monotonic());
        let late = clock.sleep(left.min(self.context.limits.body_idle));
        tokio::select! {
            biased;
            read = body.collect(limit) => read.map_err(unreadable),
            () = late => Err(unreadable(BodyError::Idle)),
        }
    }

    fn metadata(&self, invocation: &Invocation, kind: Kind, left: std::time::Duration) -> Metadata {
        let deadline = self.context.clock.now() + left;
        // Handlers of events see by this key which deliveries repeat the same work.
        let key = invocation
            .idempotency_key
            .as_deref()
            .filter(|_| kind != Kind::Http);
        Metadata {
            request_id: invocation.id.to_string(),
            deadline_ms: deadline.as_millis(),
            function_arn: payload::function_arn(&self.spec.app, &self.spec.workload.name),
            trace: invocation
                .trace
                .parent
                .map(|span| invocation.trace.xray(span)),
            client_context: key.map(protocol::client_context),
        }
    }
}

/// The route that led here, through whatever accepted the request earlier.
fn route(trigger: &Trigger) -> Option<&str> {
    match trigger {
        Trigger::Route(path) => Some(path),
        Trigger::Accepted(earlier) => route(earlier),
        _ => None,
    }
}

fn too_large(limit: ByteSize) -> Error {
    Error::new(
        code::PAYLOAD_TOO_LARGE,
        format!("the payload is larger than {limit}"),
    )
}

fn encoded(value: &impl serde::Serialize) -> Result<Bytes, Error> {
    let bytes = serde_json::to_vec(value).map_err(Error::internal)?;
    Ok(Bytes::from(bytes))
}

fn unreadable(error: BodyError) -> Error {
    match error {
        BodyError::TooLarge(limit) => too_large(limit),
        BodyError::Idle => Error::new(
            code::REQUEST_TIMEOUT,
            "the request body did not come in time",
        ),
        BodyError::Connection(e) => {
            Error::new(code::BAD_REQUEST, "the request body broke off").context(e)
        }
        BodyError::Workload(error) => error,
    }
}
