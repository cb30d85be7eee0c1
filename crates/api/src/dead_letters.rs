//! Dead letters: deliveries that were given up.

use axum::{Json, extract::State};
use model::{Code, Name, code};
use platform::{Platform, deliveries::DeadLetterFilter};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Fault,
    ask::{Path, Query, Sent},
    fault::bad_request,
    operator::Operator,
};

/// Which dead letters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    subscription: Option<String>,
    app: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<Code>,
    limit: Option<u32>,
    rate: Option<String>,
}

impl Ask {
    fn filter(&self) -> Result<DeadLetterFilter, Fault> {
        let app = self.app.as_deref().map(Name::new).transpose();
        let subscription = self.subscription.as_deref().map(str::parse).transpose();
        Ok(DeadLetterFilter {
            app: app.map_err(|error| bad_request(error.to_string()))?,
            subscription: subscription
                .map_err(|error: String| model::Error::new(code::NO_SUCH_SUBSCRIPTION, error))?,
            kind: self.kind.clone(),
            code: self.code,
        })
    }
}

pub(crate) async fn list(
    State(platform): State<Platform>,
    Query(ask): Query<Ask>,
) -> Result<Json<Value>, Fault> {
    let limit = ask.limit.unwrap_or(100);
    let rows = platform.dead_letters(ask.filter()?, limit).await?;
    Ok(Json(json!({ "dead_letters": rows })))
}

pub(crate) async fn show(
    State(platform): State<Platform>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let letter = platform.dead_letter(number(&id)?).await?;
    Ok(Json(
        serde_json::to_value(letter).map_err(model::Error::internal)?,
    ))
}

/// What its event says instead.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    data: Value,
}

pub(crate) async fn edit(
    State(platform): State<Platform>,
    Path(id): Path<String>,
    Operator(by): Operator,
    Sent(edit): Sent<Edit>,
) -> Result<Json<Value>, Fault> {
    let id = number(&id)?;
    platform.edit_dead_letter(id, edit.data, &by).await?;
    Ok(Json(json!({"edited": id})))
}

pub(crate) async fn redrive(
    State(platform): State<Platform>,
    Path(id): Path<String>,
    Operator(by): Operator,
) -> Result<Json<Value>, Fault> {
    platform.redrive(number(&id)?, &by).await?;
    Ok(Json(json!({"redriven": 1})))
}

pub(crate) async fn redrive_all(
    State(platform): State<Platform>,
    Operator(by): Operator,
    Sent(ask): Sent<Ask>,
) -> Result<Json<Value>, Fault> {
    let rate = ask.rate.as_deref().map(str::parse).transpose();
    let rate = rate.map_err(|expected| bad_request(format!("`rate`: expected {expected}")))?;
    Ok(Json(platform.redrive_all(ask.filter()?, rate, &by).await?))
}

pub(crate) async fn discard(
    State(platform): State<Platform>,
    Path(id): Path<String>,
    Operator(by): Operator,
) -> Result<Json<Value>, Fault> {
    platform.discard_dead_letter(number(&id)?, &by).await?;
    Ok(Json(json!({"discarded": 1})))
}

pub(crate) async fn discard_all(
    State(platform): State<Platform>,
    Operator(by): Operator,
    Sent(ask): Sent<Ask>,
) -> Result<Json<Value>, Fault> {
    if ask.rate.is_some() {
        return Err(bad_request("`rate`: only a redrive has one"));
    }
    let count = platform.discard_dead_letters(ask.filter()?, &by).await?;
    Ok(Json(json!({ "discarded": count })))
}

fn number(text: &str) -> Result<u64, Fault> {
    text.parse()
        .map_err(|_| bad_request(format!("`{text}` is no dead letter's number")))
}
