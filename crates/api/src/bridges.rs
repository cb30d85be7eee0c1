//! Bridges to other people's brokers: how each way of each is doing, and where a topic is read on.

use axum::{
    Json,
    extract::{Path, State},
};
use model::{Error, code};
use platform::{Platform, bridges::ReadFrom};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Fault, operator::Operator};

/// Where to read on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seek {
    /// Which topic of the bridge.
    topic: String,
    /// Which partition; all unless given.
    partition: Option<i32>,
    /// `earliest`, `latest` or an offset.
    to: To,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum To {
    Offset(i64),
    Word(String),
}

pub(crate) async fn list(State(platform): State<Platform>) -> Json<Value> {
    Json(json!({ "bridges": platform.bridges() }))
}

pub(crate) async fn seek(
    State(platform): State<Platform>,
    Path((app, bridge)): Path<(String, String)>,
    Operator(by): Operator,
    Json(ask): Json<Seek>,
) -> Result<Json<Value>, Fault> {
    let to = match ask.to {
        To::Offset(offset) => ReadFrom::Offset(offset),
        To::Word(word) if word == "earliest" => ReadFrom::Earliest,
        To::Word(word) if word == "latest" => ReadFrom::Latest,
        To::Word(_) => {
            let message = "`to` is `earliest`, `latest` or an offset";
            return Err(Error::new(code::BAD_REQUEST, message).into());
        }
    };
    let places = platform.seek((&app, &bridge, &ask.topic), ask.partition, to, &by);
    let rows = places.await?.into_iter();
    let rows = rows.map(|(partition, next)| json!({"partition": partition, "next": next}));
    Ok(Json(json!({ "partitions": rows.collect::<Vec<_>>() })))
}
