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
use tokio::sync::watch;

use super::stopped;
use crate::{Platform, calls};

/// How often the outbox is looked at when nobody said that there is something.
const LOOK: Duration = Duration::from_secs(5);
/// Attempts of a callback: about a day with waits that double up to an hour.
const ATTEMPTS: u32 = 30;
/// How long a callback may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(platform: Platform, mut stop: watch::Receiver<bool>) {
    let calls = platform.bus().calls();
    loop {
        let next = work_off(&platform).await;
        tokio::select! {
            () = calls.ended() => {}
            () = platform.clock().sleep(next) => {}
            () = stopped(&mut stop) => return,
        }
    }
}

/// Does what is due, and says how long nothing will be.
async fn work_off(platform: &Platform) -> Duration {
    loop {
        let work = match platform.store().outbox().next(CALL_ENDED, 16).await {
            Ok(work) => work,
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read");
                return LOOK;
            }
        };
        let now = platform.clock().now();
        let Some(first) = work.first() else {
            return LOOK;
        };
        if first.due > now {
            return first.due.since(now).min(LOOK);
        }
        for item in work.iter().filter(|item| item.due <= now) {
            if let Err(error) = announce(platform, item, now).await {
                tracing::error!(%error, key = item.key, "an end could not be announced; it will be tried again");
                return LOOK;
            }
        }
    }
}

async fn announce(platform: &Platform, work: &Work, now: Time) -> Result<(), Error> {
    let id: InvocationId = work.key.parse().map_err(Error::internal)?;
    let Some(status) = platform.bus().calls().status(id).await? else {
        return Ok(platform.store().outbox().done(work.id).await?);
    };
    let document = calls::describe(&status);
    if work.attempts == 0 {
        publish(platform, &status, document.clone(), now).await?;
    }
    let called = match &status.callback {
        Some(url) => post(platform, url, document.to_string().into()).await,
        None => Ok(()),
    };
    match called {
        Ok(()) => platform.store().outbox().done(work.id).await?,
        Err(error) if work.attempts >= ATTEMPTS => {
            tracing::warn!(%error, %id, "a callback was given up");
            platform.store().outbox().done(work.id).await?;
        }
        Err(error) => {
            tracing::info!(%error, %id, "a callback failed and will be tried again");
            let wait =
                Duration::from_secs(1 << work.attempts.min(11)).min(Duration::from_secs(3600));
            platform.store().outbox().later(work.id, wait).await?;
        }
    }
    Ok(())
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
