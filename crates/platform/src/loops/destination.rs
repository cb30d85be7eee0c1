//! The record of an asynchronous invocation, for the destination that its workload names
//! (<https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html>).
//!
//! The end and the outbox row that leads here were one commit. What this causes is recognised when it is repeated: the
//! invocation's id is derived from the one that ended, and an event's id is that one.

use std::collections::BTreeMap;

use bus::{CALL_DESTINED, Condition, Ended};
use bytes::Bytes;
use model::{
    ByteSize, Cause, Class, Destination, Error, Event, InvocationId, Principal, Select, Target,
    Time, Trigger, code, event::EventData, name::Name,
};
use runtime::lambda::payload::function_arn;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::outbox::Work;

use super::errand::Errand;
use crate::{Platform, calls};

/// What the attributes of an event may take of its size.
const ATTRIBUTES: u64 = 4 << 10;

/// What leads a record to its destination.
pub(super) const ERRAND: Errand = Errand {
    kind: CALL_DESTINED,
    next: |calls| Box::pin(calls.destined()),
    what: "the record for a destination",
    go: |platform, work, now| {
        Box::pin(async move { Ok(deliver(platform, work, now).await.into()) })
    },
};

async fn deliver(platform: &Platform, work: &Work, now: Time) -> Result<(), Error> {
    let id: InvocationId = work.key.parse().map_err(Error::internal)?;
    let Some(ended) = platform.bus().calls().ended_call(id).await? else {
        return Ok(());
    };
    match ended.destination.clone() {
        None => Ok(()),
        Some(Destination::Events) => publish(platform, &ended, now).await,
        Some(Destination::Workload(name)) => call(platform, &ended, &name).await,
    }
}

/// The record as an event, as EventBridge gets it from Lambda.
async fn publish(platform: &Platform, ended: &Ended, now: Time) -> Result<(), Error> {
    let target = &ended.status.target;
    let word = match ended.condition {
        Condition::Success => "Success",
        _ => "Failure",
    };
    let limit = ByteSize(platform.limits().event.0.saturating_sub(ATTRIBUTES));
    let resources = json!([arn(target)]);
    let event = Event {
        id: ended.status.id.to_string(),
        source: "lambda".to_owned(),
        kind: format!("Lambda Function Invocation Result - {word}"),
        subject: Some(target.to_string()),
        time: Some(now),
        content_type: None,
        schema: None,
        extensions: BTreeMap::from([("awsresources".to_owned(), resources.to_string().into())]),
        data: EventData::Json(record(ended, limit)),
    };
    let published = vec![(event, cause(ended))];
    let receipts = platform
        .bus()
        .publish_for(Some(&target.app), &target.namespace, published)
        .await;
    receipts
        .into_iter()
        .try_for_each(|receipt| receipt.map(drop))
}

/// The record as the payload of an asynchronous invocation of its own.
async fn call(platform: &Platform, ended: &Ended, name: &str) -> Result<(), Error> {
    let cause = cause(ended);
    let depth = platform.limits().chain_depth;
    if cause.depth > depth {
        let id = ended.status.id;
        tracing::error!(%id, "destinations of destinations, more than {depth} deep: the record is lost");
        return Ok(());
    }
    let callee = platform
        .apps()
        .resolve(&named(&ended.status.target, name)?)?;
    let limit = platform.limits().sync_payload;
    let payload = Bytes::from(record(ended, limit).to_string());
    let trigger = Trigger::Mesh(ended.status.target.to_string().into());
    let id = follow_up(ended.status.id);
    let calls = platform.calls();
    calls.accept_as(id, &callee, trigger, payload, cause).await
}

/// `name` of the same app, or `app/name`.
fn named(from: &Target, name: &str) -> Result<Target, Error> {
    let (app, workload) = match name.split_once('/') {
        Some((app, workload)) => (Name::new(app).map_err(Error::internal)?, workload),
        None => (from.app.clone(), name),
    };
    Ok(Target {
        namespace: from.namespace.clone(),
        app,
        workload: Name::new(workload).map_err(Error::internal)?,
        select: Select::Live,
    })
}

fn cause(ended: &Ended) -> Cause {
    let status = &ended.status;
    let mut principals = status.cause.principals.clone();
    principals.push(Principal::Workload(status.target.to_string().into()));
    Cause {
        invocation: Some(status.id),
        class: Class::Async,
        principals,
        trace: status.cause.trace,
        depth: status.cause.depth + 1,
        idempotency_key: None,
    }
}

/// The id of the invocation that a record causes: the same whenever it is asked for, of the same time, and no other's.
fn follow_up(id: InvocationId) -> InvocationId {
    let old = id.0.into_bytes();
    let hash = Sha256::digest([&old[..], b"destination"].concat());
    let mut new = old;
    new[6..].copy_from_slice(&hash[6..16]);
    // Version 7 and the variant of RFC 9562.
    new[6] = (new[6] & 0x0f) | 0x70;
    new[8] = (new[8] & 0x3f) | 0x80;
    InvocationId::from_bytes(new)
}

fn arn(target: &Target) -> String {
    format!("{}:$LATEST", function_arn(&target.app, &target.workload))
}

/// The record, version 1.0. What makes it larger than `limit` is left out of it, and named.
fn record(ended: &Ended, limit: ByteSize) -> Value {
    let status = &ended.status;
    let condition = match ended.condition {
        Condition::Success => "Success",
        Condition::RetriesExhausted => "RetriesExhausted",
        Condition::EventAgeExceeded => "EventAgeExceeded",
    };
    let mut record = json!({
        "version": "1.0",
        "timestamp": ended.at.rfc3339(),
        "requestContext": {
            "requestId": status.id,
            "functionArn": arn(&status.target),
            "condition": condition,
            "approximateInvokeCount": status.attempts,
        },
        "requestPayload": calls::described_input(&ended.input),
    });
    if let Some(result) = &status.result {
        record["responseContext"] = context(result.status, false);
        record["responsePayload"] = payload(&result.body);
    } else if status.attempts > 0 {
        record["responseContext"] = context(200, true);
        record["responsePayload"] = failure(ended);
    }
    let mut omitted = Vec::new();
    for field in ["responsePayload", "requestPayload"] {
        if record.to_string().len() as u64 > limit.0 {
            record[field] = Value::Null;
            omitted.push(field);
            record["tangelo"] = json!({"omitted": omitted});
        }
    }
    record
}

fn context(status: u16, failed: bool) -> Value {
    let mut context = json!({"statusCode": status, "executedVersion": "$LATEST"});
    if failed {
        context["functionError"] = "Unhandled".into();
    }
    context
}

/// A handler's error object, or one made of why there was no answer.
fn failure(ended: &Ended) -> Value {
    if !ended.failure.is_empty() {
        return payload(&ended.failure);
    }
    let error = ended.status.error.as_ref();
    let message = error.map_or_else(String::new, |error| match &error.context {
        Some(context) => format!("{}: {context}", error.message),
        None => error.message.clone(),
    });
    let timed_out = error.is_some_and(|error| error.code == code::WORKLOAD_TIMEOUT);
    let kind = if timed_out {
        "Sandbox.Timedout"
    } else {
        "Unhandled"
    };
    json!({"errorType": kind, "errorMessage": message})
}

/// JSON as it is, other text as a text.
fn payload(body: &Bytes) -> Value {
    match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(_) => calls::text_or_base64(body),
    }
}
