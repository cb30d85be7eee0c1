//! What follows the end of asynchronous work: `invocation.completed` on the bus, and a POST to the route's callback.
//!
//! The end and the outbox row that leads here were one commit, so that a crash between them loses neither; the event's
//! id is the invocation's, so that a repetition is recognised.

use std::time::Duration;

use bus::{CALL_ENDED, CallStatus};
use bytes::Bytes;
use http::{Request, Uri, header};
use model::{
    Cause, Class, Error, Event, InvocationId, Principal, Time, code, event::EventData, name::Name,
};
use runtime::{Body, external};
use serde_json::Value;
use store::outbox::Work;

use super::errand::{Errand, Went};
use crate::{Platform, calls};

/// How long a callback may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What follows an end.
pub(super) const ERRAND: Errand = Errand {
    kind: CALL_ENDED,
    next: |calls| Box::pin(calls.ended()),
    what: "a callback",
    go: |platform, work, now| Box::pin(announce(platform, work, now)),
};

async fn announce(platform: &Platform, work: &Work, now: Time) -> Result<Went, Error> {
    let id: InvocationId = work.key.parse().map_err(Error::internal)?;
    let Some(status) = platform.bus().calls().status(id).await? else {
        return Ok(Went::Well);
    };
    let document = calls::describe(&status);
    if work.attempts == 0 {
        publish(platform, &status, document.clone(), now).await?;
    }
    Ok(match &status.callback {
        Some(url) => post(platform, url, document.to_string().into())
            .await
            .into(),
        None => Went::Well,
    })
}

async fn publish(
    platform: &Platform,
    status: &CallStatus,
    document: Value,
    now: Time,
) -> Result<(), Error> {
    let event = Event {
        id: status.id.to_string(),
        source: format!("/tangelo/{}", status.target),
        kind: "invocation.completed".to_owned(),
        subject: Some(status.target.to_string()),
        time: Some(now),
        content_type: None,
        schema: None,
        extensions: std::collections::BTreeMap::new(),
        data: EventData::Json(document),
    };
    let cause = Cause {
        invocation: Some(status.id),
        class: Class::Async,
        principals: vec![Principal::Operator],
        ..status.cause.clone()
    };
    let receipts = platform
        .bus()
        .publish(&Name::default_namespace(), vec![(event, cause)])
        .await;
    receipts
        .into_iter()
        .try_for_each(|receipt| receipt.map(drop))
}

/// POSTs `document` and wants a 2xx.
async fn post(platform: &Platform, url: &str, document: Bytes) -> Result<(), Error> {
    let failed = |e: String| {
        Error::new(
            code::UPSTREAM_UNREACHABLE,
            format!("the callback {url} did not take it: {e}"),
        )
    };
    let uri: Uri = url.parse().map_err(|_| failed("it is no URL".to_owned()))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(failed("it is no URL".to_owned()));
    };
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::full(document));
    let request = request.map_err(|e| failed(e.to_string()))?;
    let response = external::send(
        platform.clock(),
        &format!("{scheme}://{authority}"),
        request,
        PATIENCE,
    )
    .await?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(failed(format!(
            "it answered {}",
            response.status().as_u16()
        )))
    }
}
