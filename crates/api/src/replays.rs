//! The log: its newest events, replays of it, and redrives beside them.

use axum::{Json, extract::State};
use model::{EventFilter, Position, Time, code};
use platform::{Platform, deliveries::Replay};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Fault,
    ask::{Path, Query, Sent},
    fault::bad_request,
    operator::Operator,
};

/// Most events in one answer.
const MOST: u32 = 500;

/// Which events of the log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    after: Option<u64>,
    through: Option<u64>,
    #[serde(rename = "type")]
    kind: Option<String>,
    limit: Option<u32>,
}

pub(crate) async fn events(
    State(platform): State<Platform>,
    Query(ask): Query<Which>,
) -> Result<Json<Value>, Fault> {
    let limit = ask.limit.unwrap_or(20);
    if !(1..=MOST).contains(&limit) {
        return Err(bad_request(format!(
            "`limit` is {limit}: 1 to {MOST} events come in one answer"
        )));
    }
    let (after, through) = (ask.after.map(Position), ask.through.map(Position));
    let kind = ask.kind.as_deref();
    let shown = platform.logged((after, through), kind, limit).await?;
    Ok(Json(shown))
}

pub(crate) async fn state(State(platform): State<Platform>) -> Result<Json<Value>, Fault> {
    Ok(Json(json!({ "logs": platform.logs().await? })))
}

/// What is to be replayed, and where to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    subscription: String,
    after: Option<u64>,
    since: Option<String>,
    until: Option<String>,
    filter: Option<EventFilter>,
    rate: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

pub(crate) async fn start(
    State(platform): State<Platform>,
    Operator(by): Operator,
    Sent(ask): Sent<Ask>,
) -> Result<Json<Value>, Fault> {
    let key = ask.subscription.parse();
    let key = key.map_err(|error: String| model::Error::new(code::NO_SUCH_SUBSCRIPTION, error))?;
    let rate = ask.rate.as_deref().map(str::parse).transpose();
    let after = ask.after.unwrap_or(0);
    if i64::try_from(after).is_err() {
        return Err(bad_request(format!(
            "`after`: no log has a position {after}"
        )));
    }
    let since = ask.since.as_deref().map(time).transpose()?;
    let until = ask.until.as_deref().map(time).transpose()?;
    if until.is_some_and(|until| since.is_some_and(|since| since >= until)) {
        return Err(bad_request(
            "`until` is not after `since`: nothing was published in between",
        ));
    }
    let replay = Replay {
        key,
        after: Position(after),
        since,
        until,
        filter: ask.filter,
        rate: rate.map_err(|expected| bad_request(format!("`rate`: expected {expected}")))?,
    };
    Ok(Json(platform.replay(replay, ask.dry_run, &by).await?))
}

fn time(text: &str) -> Result<Time, Fault> {
    Time::parse_rfc3339(text).ok_or_else(|| {
        bad_request(format!(
            "`{text}` is no RFC 3339 time such as 2026-01-02T03:04:05Z"
        ))
    })
}

pub(crate) async fn jobs(State(platform): State<Platform>) -> Result<Json<Value>, Fault> {
    Ok(Json(json!({"jobs": platform.jobs(100).await?})))
}

pub(crate) async fn job(
    State(platform): State<Platform>,
    Path(id): Path<u64>,
) -> Result<Json<Value>, Fault> {
    let job = platform.job(id).await?;
    Ok(Json(
        serde_json::to_value(job).map_err(model::Error::internal)?,
    ))
}

pub(crate) async fn cancel(
    State(platform): State<Platform>,
    Path(id): Path<u64>,
    Operator(by): Operator,
) -> Result<Json<Value>, Fault> {
    let cancelled = platform.cancel_job(id, &by).await?;
    Ok(Json(json!({ "cancelled": cancelled })))
}
