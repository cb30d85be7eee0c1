//! Work that is committed now and done later: asynchronous routes and `Event` invokes. Accepted means fsynced; the
//! result is kept for the status URL.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bus::{Bus, CallResult, CallState, CallStatus, NewCall};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use model::{
    Cause, Class, Clock, Error, Ids, Invocation, InvocationId, Limits, Route, Select, Target,
    Trigger, code,
};
use runtime::{Body, BodyError, Input};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dispatch::Callee;

/// Where the state of asynchronous work is asked for, at every gateway address.
pub const STATUS_PATH: &str = "/_tangelo/invocations/";

/// Asynchronous invocations. Cheap to clone.
#[derive(Clone)]
pub struct Calls {
    pub(crate) bus: Bus,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) limits: Limits,
}

/// What is stored of the input. Version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoredInput {
    /// An HTTP request.
    Http {
        method: String,
        uri: String,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// A JSON payload.
    Payload(String),
}

impl Calls {
    /// Commits the request of an asynchronous route and answers 202 with the status URL.
    ///
    /// # Errors
    /// `BODY_TOO_LARGE`, or when the store refuses: nothing was accepted.
    pub async fn accept_http(
        &self,
        callee: &Arc<Callee>,
        route: &Route,
        invocation: Invocation,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let (head, body) = request.into_parts();
        let limit = route
            .max_body
            .unwrap_or(self.limits.async_payload)
            .min(callee.workload.max_body);
        let body = body.collect(limit).await.map_err(|error| match error {
            BodyError::TooLarge(limit) => Error::new(
                code::BODY_TOO_LARGE,
                format!("the request's body is larger than {limit}"),
            ),
            other => Error::new(code::BAD_REQUEST, "the request's body broke off").context(other),
        })?;
        let headers = head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), STANDARD.encode(value.as_bytes())))
            .collect();
        let input = StoredInput::Http {
            method: head.method.to_string(),
            uri: head.uri.to_string(),
            headers,
            body: STANDARD.encode(&body),
        };
        let mut cause = invocation.cause(Class::Async);
        cause.invocation = None;
        cause.depth = invocation.depth;
        let trigger = Trigger::Accepted(Box::new(invocation.trigger));
        self.commit(
            invocation.id,
            callee,
            trigger,
            cause,
            &input,
            route.callback.clone(),
        )
        .await?;
        Ok(accepted(invocation.id))
    }

    /// Commits a JSON payload. The id is what its state goes by.
    ///
    /// # Errors
    /// When the store refuses: nothing was accepted.
    pub async fn accept_payload(
        &self,
        callee: &Arc<Callee>,
        payload: Bytes,
        cause: Cause,
        callback: Option<String>,
    ) -> Result<InvocationId, Error> {
        let id = self.ids.invocation(&self.clock);
        let input = payload_text(&payload)?;
        let trigger = Trigger::Accepted(Box::new(Trigger::Direct));
        self.commit(id, callee, trigger, cause, &input, callback)
            .await?;
        Ok(id)
    }

    /// Commits a JSON payload under an id of the caller's: the same id again changes nothing.
    ///
    /// # Errors
    /// When the store refuses: nothing was accepted.
    pub(crate) async fn accept_as(
        &self,
        id: InvocationId,
        callee: &Callee,
        trigger: Trigger,
        payload: Bytes,
        cause: Cause,
    ) -> Result<(), Error> {
        let input = payload_text(&payload)?;
        let trigger = Trigger::Accepted(Box::new(trigger));
        self.commit(id, callee, trigger, cause, &input, None).await
    }

    async fn commit(
        &self,
        id: InvocationId,
        callee: &Callee,
        trigger: Trigger,
        mut cause: Cause,
        input: &StoredInput,
        callback: Option<String>,
    ) -> Result<(), Error> {
        cause
            .idempotency_key
            .get_or_insert_with(|| id.to_string().into());
        let call = NewCall {
            id,
            target: Target {
                select: Select::Live,
                ..callee.target.as_ref().clone()
            },
            trigger,
            cause,
            input: serde_json::to_vec(input).map_err(Error::internal)?.into(),
            callback,
            retry: callee.workload.deferred.retry(),
            destinations: callee.workload.deferred.destinations.clone(),
        };
        Ok(self.bus.calls().accept(call).await?)
    }

    /// What became of asynchronous work: `GET /_tangelo/invocations/ID`.
    ///
    /// # Errors
    /// `NO_SUCH_INVOCATION`, or what the store fails with.
    pub async fn status(&self, id: InvocationId) -> Result<Response<Body>, Error> {
        let status = self.bus.calls().status(id).await?.ok_or_else(|| {
            let message =
                format!("no asynchronous invocation {id} is known; results are kept for a day");
            Error::new(code::NO_SUCH_INVOCATION, message)
        })?;
        let mut response = Response::new(Body::full(describe(&status).to_string()));
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

/// The answer to asynchronous work once it is committed: 202 with the status URL.
pub(crate) fn accepted(id: InvocationId) -> Response<Body> {
    let location = format!("{STATUS_PATH}{id}");
    let mut response = Response::new(Body::full(
        json!({"id": id, "status": location}).to_string(),
    ));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::LOCATION,
        HeaderValue::try_from(location).expect("a path with an id makes a header"),
    );
    response
}

/// The document of the status URL, and of the callback and `invocation.completed`.
pub(crate) fn describe(status: &CallStatus) -> Value {
    let mut document = json!({
        "id": status.id,
        "workload": status.target.to_string(),
        "state": status.state,
        "attempts": status.attempts,
        "accepted_at": status.accepted_at.rfc3339(),
    });
    if let Some(error) = &status.error {
        document["error"] = json!({"code": error.code, "message": error.message});
    }
    if let Some(result) = &status.result {
        document["result"] = describe_result(result);
    }
    debug_assert!(status.state != CallState::Done || status.result.is_some());
    document
}

fn payload_text(payload: &Bytes) -> Result<StoredInput, Error> {
    String::from_utf8(payload.to_vec())
        .map(StoredInput::Payload)
        .map_err(|_| Error::new(code::BAD_REQUEST, "the payload is not UTF-8"))
}

/// An input as JSON: a payload as it is, a request as its parts.
pub(crate) fn described_input(stored: &[u8]) -> Value {
    match serde_json::from_slice(stored) {
        Ok(StoredInput::Payload(text)) => {
            serde_json::from_str(&text).unwrap_or_else(|_| text.into())
        }
        Ok(StoredInput::Http {
            method,
            uri,
            headers,
            body,
        }) => {
            let decoded = |text: &String| STANDARD.decode(text).unwrap_or_default();
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let headers = headers
                .iter()
                .map(|(name, value)| json!([name, text(decoded(value))]));
            json!({
                "method": method,
                "uri": uri,
                "headers": headers.collect::<Vec<_>>(),
                "body": text_or_base64(&decoded(&body)),
            })
        }
        Err(_) => Value::Null,
    }
}

/// A text, or `{"base64": …}` of what is none.
pub(crate) fn text_or_base64(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

pub(crate) fn describe_result(result: &CallResult) -> Value {
    let mut document = json!({"status": result.status, "headers": result.head});
    match serde_json::from_slice::<Value>(&result.body) {
        Ok(body) => document["body"] = body,
        Err(_) => match std::str::from_utf8(&result.body) {
            Ok(text) => document["body"] = text.into(),
            Err(_) => document["body_base64"] = STANDARD.encode(&result.body).into(),
        },
    }
    document
}

impl StoredInput {
    /// What the workload gets.
    pub(crate) fn restore(self) -> Result<Input, Error> {
        match self {
            Self::Payload(text) => Ok(Input::Payload(text.into())),
            Self::Http {
                method,
                uri,
                headers,
                body,
            } => {
                let bytes = STANDARD.decode(body).map_err(Error::internal)?;
                let mut request = Request::builder()
                    .method(method.as_str())
                    .uri(uri)
                    .body(Body::full(bytes))
                    .map_err(Error::internal)?;
                for (name, value) in headers {
                    let name = HeaderName::try_from(name).map_err(Error::internal)?;
                    let value = STANDARD.decode(value).map_err(Error::internal)?;
                    request.headers_mut().append(
                        name,
                        HeaderValue::from_bytes(&value).map_err(Error::internal)?,
                    );
                }
                Ok(Input::http(request))
            }
        }
    }
}

/// The headers that are kept of a result.
pub(crate) fn kept_headers(headers: &http::HeaderMap) -> Value {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        Some((name.to_string(), value.to_str().ok()?.to_owned()))
    };
    let kept: BTreeMap<_, _> = headers.iter().filter_map(text).collect();
    json!(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_survives_being_stored() {
        let stored = StoredInput::Http {
            method: "POST".into(),
            uri: "/a?b=c".into(),
            headers: vec![
                ("x-a".into(), STANDARD.encode("1")),
                ("x-a".into(), STANDARD.encode([0xff])),
            ],
            body: STANDARD.encode([0, 159]),
        };
        let bytes = serde_json::to_vec(&stored).expect("is data");
        let restored: StoredInput = serde_json::from_slice(&bytes).expect("is data");
        let Ok(Input::Http(request)) = restored.restore() else {
            panic!("is a request")
        };
        assert_eq!(
            (request.method().as_str(), request.uri().path()),
            ("POST", "/a")
        );
        assert_eq!(request.headers().get_all("x-a").iter().count(), 2);
        assert_eq!(
            request
                .into_body()
                .collect(model::ByteSize(9))
                .await
                .expect("is at hand")
                .as_ref(),
            [0, 159]
        );
    }
}
