//! The inbox that consumers ask whether they have seen something: `PUT /inbox/KEY` on the mesh.
//!
//! A workload sees its own keys only. `?version=N` asks whether N is higher than all versions seen under the key, for
//! events that come out of order.

use http::{Method, Request, Response, StatusCode};
use model::{Error, Trigger, code};
use percent_encoding::percent_decode_str;
use runtime::{Body, Caller};
use serde_json::{Value, json};
use store::inbox::{Claim, Inbox, InboxKey, Seen};

/// The longest key, in bytes.
const MAX_KEY: usize = 512;

/// Answers `PUT`, `GET` and `DELETE` of `/inbox/KEY`. What the body says is not read.
///
/// # Errors
/// `BAD_REQUEST` where it is no such request; what the store fails with.
pub(crate) async fn serve(
    inbox: &Inbox,
    caller: &Caller,
    request: Request<Body>,
) -> Result<Response<Body>, Error> {
    let (head, _) = request.into_parts();
    let key = key(caller, head.uri.path())?;
    let version = version(head.uri.query())?;
    match (&head.method, version) {
        (&Method::PUT, version) => {
            let seen = inbox.take(key, version, claim(caller)).await?;
            let status = match seen.first {
                true => StatusCode::CREATED,
                false => StatusCode::OK,
            };
            Ok(answer(status, &shown(seen)))
        }
        (&Method::GET, None) => match inbox.get(key).await? {
            Some(seen) => Ok(answer(StatusCode::OK, &shown(seen))),
            None => Ok(answer(StatusCode::NOT_FOUND, &json!({"seen": false}))),
        },
        (&Method::DELETE, None) => {
            let forgotten = inbox.forget(key).await?;
            Ok(answer(StatusCode::OK, &json!({ "forgotten": forgotten })))
        }
        (method, _) => Err(bad(format!(
            "the inbox takes PUT (with or without ?version=), GET and DELETE of /inbox/KEY, not {method} here"
        ))),
    }
}

fn key(caller: &Caller, path: &str) -> Result<InboxKey, Error> {
    let text = path.strip_prefix("/inbox/").unwrap_or_default();
    let key = percent_decode_str(text).decode_utf8();
    let key = key.map_err(|_| bad("the key is not percent-encoded UTF-8".to_owned()))?;
    if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
        return Err(bad(format!(
            "a key of the inbox has 1 to {MAX_KEY} bytes and no control characters"
        )));
    }
    Ok(InboxKey {
        app: caller.presence.app.clone(),
        workload: caller.presence.workload.clone(),
        key: key.into_owned(),
    })
}

fn version(query: Option<&str>) -> Result<Option<i64>, Error> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(None);
    };
    let version = query.strip_prefix("version=").and_then(|v| v.parse().ok());
    version.map(Some).ok_or_else(|| {
        bad(format!(
            "`{query}`: only `version=` with a whole number is known"
        ))
    })
}

/// The delivery that the caller works on, if it is one.
fn claim(caller: &Caller) -> Option<Claim> {
    let working = caller.working.as_ref()?;
    let Trigger::Event {
        subscription,
        position,
        ..
    } = &working.0.trigger
    else {
        return None;
    };
    Some(Claim {
        delivery: format!("{subscription}@{}", position.0),
        attempt: working.0.attempt,
    })
}

fn shown(seen: Seen) -> Value {
    let mut shown = json!({"first": seen.first, "since": seen.since.rfc3339()});
    if let Some(version) = seen.version {
        shown["version"] = version.into();
    }
    shown
}

fn answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::full(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

fn bad(message: String) -> Error {
    Error::new(code::BAD_REQUEST, message)
}
