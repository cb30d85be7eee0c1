//! Walk 2, second half: what the bus says is ready goes through the door, and what became of it goes back to the bus.

use std::{sync::Arc, time::Instant};

use bus::{Delivery, Settled};
use bytes::Bytes;
use http::Response;
use model::{
    AppName, Class, Error, Invocation, Select, SpanId, SubscriptionKey, Target, Trigger, code,
    name::Name,
};
use runtime::{Body, FunctionError, Input, webhook::Verdict};
use serde_json::Value;
use store::crash::Moment;
use telemetry::{Attributes, Span, SpanKind};
use tokio::{sync::watch, task::JoinSet};

use super::{
    batch,
    input::{self, Load},
    read_answer, stopped,
};
use crate::{
    Platform,
    background::breathe,
    dispatch::{Callee, Permit},
};

pub(super) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    let mut under_way = JoinSet::new();
    loop {
        let key = tokio::select! {
            key = platform.bus().ready() => key,
            () = stopped(&mut stop) => break,
            Some(_) = under_way.join_next(), if !under_way.is_empty() => continue,
        };
        match admit(&platform, &key) {
            Err(error) => wait_or_give_up(&platform, &key, &error).await,
            Ok((callee, permit)) => {
                let deliveries = platform.bus().take(&key).await;
                if !deliveries.is_empty() {
                    under_way.spawn(deliver(platform.clone(), callee, permit, deliveries));
                }
            }
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// A subscription whose workload is no longer deployed gives up what it still has: nobody will ever take it, and it
/// would hold the log. Anything else waits without using up an attempt.
async fn wait_or_give_up(platform: &Platform, key: &SubscriptionKey, error: &Error) {
    let gone = matches!(error.code, code::NO_SUCH_APP | code::NO_SUCH_WORKLOAD);
    if gone {
        let SubscriptionKey { app, workload, .. } = key;
        // It may have been any of these.
        let message = format!(
            "`{app}/{workload}` is no more: no workload, bridge or subscription of that name is deployed"
        );
        let reason = Error::new(error.code, message);
        if platform.bus().give_up_ended(key, &reason).await > 0 {
            return;
        }
    }
    let wait = error.retry_after.unwrap_or(PARKED);
    platform.bus().park(key, wait, &error.to_string());
}

/// How much of what an endpoint answers is kept beside its failure, in bytes.
const SHOWN: usize = 512;

/// How long a subscription waits whose refusal says no time of its own.
const PARKED: std::time::Duration = std::time::Duration::from_millis(200);

fn admit(platform: &Platform, key: &SubscriptionKey) -> Result<(Arc<Callee>, Permit), Error> {
    let target = Target {
        namespace: Name::default_namespace(),
        app: key.app.clone(),
        workload: key.workload.clone(),
        select: Select::Live,
    };
    let callee = platform.apps().resolve(&target)?;
    let permit = platform
        .dispatch()
        .admit(&callee, Class::Async)
        .map_err(|refused| refused.0)?;
    Ok((callee, permit))
}

/// One invocation for one event, or for a batch.
async fn deliver(
    platform: Platform,
    callee: Arc<Callee>,
    permit: Permit,
    deliveries: Vec<Delivery>,
) {
    let Load { deliveries, texts } = input::load(&platform, deliveries).await;
    let Some((invocation, input)) = prepared(&platform, &callee, &deliveries, texts) else {
        return;
    };
    platform.store().pass(Moment::Taken);
    let deadline = invocation.deadline;
    let answer = platform.dispatch().invoke(permit, invocation, input);
    let answer = match answer.await {
        Err(error) => Err(failed(error)),
        Ok(response) => answered(&platform, response, deadline).await,
    };
    platform.store().pass(Moment::Delivered);
    if let Err(Settled::Later(reason)) = &answer {
        leave_alone(&platform, &deliveries, reason).await;
    }
    let ends = ends(&deliveries, &answer);
    let settles = deliveries
        .into_iter()
        .zip(ends)
        .map(|(delivery, end)| settle(&platform, delivery, end));
    for settled in futures_util::future::join_all(settles).await {
        if let Err(error) = settled {
            tracing::error!(%error, "a delivery could not be settled; it will be made again");
        }
    }
    breathe();
}

async fn settle(platform: &Platform, delivery: Delivery, end: Settled) -> Result<(), bus::Error> {
    match end {
        Settled::Done => platform.bus().done(delivery).await,
        end => platform.bus().settle(delivery, end).await,
    }
}

/// What a whole answer means.
async fn answered(
    platform: &Platform,
    response: Response<Body>,
    deadline: Instant,
) -> Result<Bytes, Settled> {
    let (head, body) = response.into_parts();
    let answer = read_answer(platform, body, deadline).await;
    let answer = answer.map_err(failed)?;
    // What a subscription's `input` makes is handed to a handler as it is, and its error is an answer with a good status.
    if let Some(FunctionError(kind)) = head.extensions.get::<FunctionError>() {
        let said = String::from_utf8_lossy(&answer[..answer.len().min(SHOWN)]).into_owned();
        let error = Error::new(code::FUNCTION_ERROR, format!("the handler failed ({kind})"));
        return Err(Settled::Retry(error.context(said)));
    }
    let status = head.status.as_u16();
    let endpoint = |code, what: &str| {
        let error = Error::new(code, format!("the endpoint answered {status}{what}"));
        match String::from_utf8_lossy(&answer[..answer.len().min(SHOWN)]) {
            said if said.trim().is_empty() => error,
            said => error.context(said.trim()),
        }
    };
    match head.extensions.get::<Verdict>() {
        Some(Verdict::Gone) => Err(Settled::Later(endpoint(
            code::ENDPOINT_GONE,
            ": it is gone",
        ))),
        Some(Verdict::Later(wait)) => {
            let error = endpoint(code::ENDPOINT_BUSY, ", and asked for its events later");
            Err(Settled::Later(error.retry_after(*wait)))
        }
        Some(Verdict::Refused | Verdict::Failed) => {
            Err(Settled::Retry(endpoint(code::ENDPOINT_FAILED, "")))
        }
        None | Some(Verdict::Taken) if head.status.is_success() => Ok(answer),
        None | Some(Verdict::Taken) => Err(Settled::Retry(Error::new(
            code::FUNCTION_ERROR,
            format!("the consumer answered {status}"),
        ))),
    }
}

/// An endpoint that asks for its events later gets none until then; one that says that it is gone, none until an operator
/// says so. What it did not take waits.
async fn leave_alone(platform: &Platform, deliveries: &[Delivery], asked: &Error) {
    let Some(first) = deliveries.first() else {
        return;
    };
    let reason = asked.to_string();
    if asked.code != code::ENDPOINT_GONE {
        let wait = asked.retry_after.unwrap_or_default();
        platform.bus().park(&first.key, wait, &reason);
        return;
    }
    let paused = platform.bus().pause(&first.key, "tangelo", Some(&reason));
    if let Err(error) = paused.await {
        tracing::error!(%error, key = %first.key, "a subscription to an endpoint that is gone cannot be paused");
    }
}

/// How each delivery ended.
fn ends(deliveries: &[Delivery], answer: &Result<Bytes, Settled>) -> Vec<Settled> {
    let all = |settled: &Settled| vec![settled.clone(); deliveries.len()];
    let answer = match answer {
        Err(settled) => return all(settled),
        Ok(_) if !deliveries.iter().any(|delivery| delivery.batched) => return all(&Settled::Done),
        Ok(answer) => answer,
    };
    let items: Vec<batch::Item<'_>> = deliveries
        .iter()
        .map(|delivery| batch::Item {
            id: &delivery.event.id,
            key: &delivery.idempotency_key,
        })
        .collect();
    let said = "the consumer said that it failed this item of its batch, or one before it";
    let end = |failed| match failed {
        false => Settled::Done,
        true => Settled::Retry(Error::new(code::FUNCTION_ERROR, said)),
    };
    let serial = deliveries.iter().any(|delivery| delivery.serial);
    let mut broken = false;
    // Behind one that failed nothing of a projection may be done.
    let with_those_behind = |failed: bool| {
        broken |= failed;
        failed || (serial && broken)
    };
    match batch::failed(&items, answer) {
        Ok(failed) => failed.into_iter().map(with_those_behind).map(end).collect(),
        Err(problem) => all(&Settled::Retry(Error::new(code::BAD_REPLY, problem))),
    }
}

/// What is handed over for deliveries of one subscription; `None`: there are none.
fn prepared(
    platform: &Platform,
    callee: &Arc<Callee>,
    deliveries: &[Delivery],
    mut texts: Vec<String>,
) -> Option<(Invocation, Input)> {
    let (first, others) = deliveries.split_first()?;
    let mut invocation = invocation(platform, callee, first);
    for other in others {
        dwell(platform, &callee.target.app, other);
        invocation.depth = invocation.depth.max(other.cause.depth);
        invocation.attempt = invocation.attempt.max(other.attempt);
        // Whom a batch acts for is clear only when it is one.
        if other.cause.principals != first.cause.principals {
            invocation.principals.clear();
        }
    }
    if first.batched {
        invocation.idempotency_key = Some(batch::idempotency_key(deliveries));
    }
    let input = match (&first.input, first.batched) {
        (None, false) => Input::Event(Arc::clone(&first.event)),
        (None, true) => Input::Events(batch::events(deliveries)),
        (Some(_), false) => Input::Payload(texts.pop()?.into()),
        (Some(_), true) => {
            // A template may make a text that is no JSON; in a list it is a JSON text.
            let items = texts
                .into_iter()
                .map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
            Input::Payload(Value::Array(items.collect()).to_string().into())
        }
    };
    Some((invocation, input))
}

/// An event that its consumer can never take is given up at once; anything else is tried again.
fn failed(error: Error) -> Settled {
    match error.code {
        code::INPUT_NOT_SUPPORTED
        | code::BAD_COMPONENT
        | code::PREVIEW_OFF
        | code::NOT_CONCURRENT
        | code::TOO_DEEP
        | code::PAYLOAD_TOO_LARGE => Settled::Dead(error),
        _ => Settled::Retry(error),
    }
}

fn invocation(platform: &Platform, callee: &Arc<Callee>, delivery: &Delivery) -> Invocation {
    let trace = delivery
        .cause
        .trace
        .below(dwell(platform, &callee.target.app, delivery));
    Invocation {
        id: platform.ids().invocation(platform.clock()),
        target: Arc::clone(&callee.target),
        trigger: Trigger::Event {
            subscription: delivery.key.clone(),
            position: delivery.position,
            event: delivery.event.id.as_str().into(),
        },
        class: Class::Async,
        principals: delivery.cause.principals.clone(),
        trace,
        deadline: platform.clock().monotonic() + callee.workload.timeout,
        depth: delivery.cause.depth,
        idempotency_key: Some(Arc::clone(&delivery.idempotency_key)),
        attempt: delivery.attempt,
    }
}

/// Records how long the event waited, as a span between what published it and the attempt.
pub(crate) fn dwell(platform: &Platform, app: &AppName, delivery: &Delivery) -> SpanId {
    let id = platform.ids().span();
    let mut attributes = Attributes::default();
    attributes.push("messaging.operation.type", "receive");
    attributes.push("messaging.destination.name", delivery.event.kind.clone());
    attributes.push(
        "tangelo.position",
        i64::try_from(delivery.position.0).unwrap_or(i64::MAX),
    );
    platform.telemetry().span(Span {
        trace: delivery.cause.trace.trace,
        id,
        parent: delivery.cause.trace.parent,
        name: format!("event {}", delivery.event.kind).into(),
        kind: SpanKind::Producer,
        start: delivery.published_at,
        end: platform.clock().now(),
        app: Some(app.clone()),
        workload: None,
        invocation: delivery.cause.invocation,
        error: None,
        attributes,
        local_root: false,
    });
    id
}
