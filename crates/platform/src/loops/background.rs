//! Asynchronous invocations: taken when due, run through the door, their results kept, announced and called back.

use std::sync::Arc;

use bus::{CallAttempt, CallResult, CallSettled};
use bytes::Bytes;
use model::{Class, Error, Invocation, Target, code};
use runtime::FunctionError;
use tokio::{sync::watch, task::JoinSet};

use super::{read_answer, stopped};
use crate::{
    Platform,
    background::breathe,
    calls::{StoredInput, kept_headers},
    dispatch::{Callee, Permit},
};

/// How long a target waits whose refusal says no time of its own.
const PARKED: std::time::Duration = std::time::Duration::from_millis(200);

pub(super) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    let calls = platform.bus().calls();
    let mut under_way = JoinSet::new();
    loop {
        let target = tokio::select! {
            target = calls.ready() => target,
            () = stopped(&mut stop) => break,
            Some(_) = under_way.join_next(), if !under_way.is_empty() => continue,
        };
        match admit(&platform, &target) {
            Err(error) => calls.park(&target, error.retry_after.unwrap_or(PARKED)),
            Ok((callee, permit)) => {
                if let Some(attempt) = calls.take(&target).await {
                    under_way.spawn(run_one(platform.clone(), callee, permit, attempt));
                }
            }
        }
    }
    while under_way.join_next().await.is_some() {}
}

fn admit(platform: &Platform, target: &Target) -> Result<(Arc<Callee>, Permit), Error> {
    let callee = platform.apps().resolve(target)?;
    let permit = platform
        .dispatch()
        .admit(&callee, Class::Async)
        .map_err(|refused| refused.0)?;
    Ok((callee, permit))
}

async fn run_one(platform: Platform, callee: Arc<Callee>, permit: Permit, attempt: CallAttempt) {
    let id = attempt.id;
    let settled = match attempt_result(&platform, &callee, permit, &attempt).await {
        Ok(result) => CallSettled::Done(result),
        Err((error, body)) => CallSettled::Retry(error, body),
    };
    if let Err(error) = platform.bus().calls().settle(attempt, settled).await {
        tracing::error!(%error, %id, "an asynchronous invocation could not be settled; it will be made again");
    }
    breathe();
}

/// The answer, or how the attempt failed and what it answered nevertheless.
async fn attempt_result(
    platform: &Platform,
    callee: &Arc<Callee>,
    permit: Permit,
    attempt: &CallAttempt,
) -> Result<CallResult, (Error, Bytes)> {
    let silent = |error| (error, Bytes::new());
    let stored = serde_json::from_slice(&attempt.input).map_err(Error::internal);
    let input = stored.and_then(StoredInput::restore).map_err(silent)?;
    let invocation = invocation(platform, callee, attempt);
    let deadline = invocation.deadline;
    let answer = platform.dispatch().invoke(permit, invocation, input);
    let (head, body) = answer.await.map_err(silent)?.into_parts();
    let body = read_answer(platform, body, deadline)
        .await
        .map_err(silent)?;
    if head.extensions.get::<FunctionError>().is_some() {
        let text = String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned();
        let message = format!("the handler of `{}` raised an error", callee.workload.name);
        return Err((
            Error::new(code::FUNCTION_ERROR, message).context(text),
            body,
        ));
    }
    if head.status.is_server_error() {
        let error = Error::new(
            code::FUNCTION_ERROR,
            format!("the workload answered {}", head.status.as_u16()),
        );
        return Err((error, body));
    }
    Ok(CallResult {
        status: head.status.as_u16(),
        head: kept_headers(&head.headers),
        body,
    })
}

fn invocation(platform: &Platform, callee: &Arc<Callee>, attempt: &CallAttempt) -> Invocation {
    Invocation {
        id: attempt.id,
        target: Arc::clone(&callee.target),
        trigger: attempt.trigger.clone(),
        class: Class::Async,
        principals: attempt.cause.principals.clone(),
        trace: attempt.cause.trace,
        deadline: platform.clock().monotonic() + callee.workload.timeout,
        depth: attempt.cause.depth,
        idempotency_key: attempt.cause.idempotency_key.clone(),
        attempt: attempt.attempt,
    }
}
