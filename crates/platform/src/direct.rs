//! Invocations by hand: the control API's and the AWS door's.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use model::{Category, Cause, Class, Error, Invocation, Principal, TraceContext, Trigger, code};
use runtime::{Body, FunctionError, Input};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Platform, calls, dispatch::Callee};

/// What an operator asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// `name` or `app/name`.
    pub workload: String,
    /// A JSON payload; or
    #[serde(default)]
    pub payload: Option<Value>,
    /// an HTTP request.
    #[serde(default)]
    pub http: Option<HttpAsk>,
    /// Commit it and answer at once.
    #[serde(default)]
    pub deferred: bool,
}

/// An HTTP request as an operator writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpAsk {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub path: String,
    /// Its headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Its body.
    #[serde(default)]
    pub body: String,
}

impl Platform {
    /// Invokes as an operator. The answer is the workload's, with its status in `x-tangelo-status` (so that a workload's
    /// 404 is not taken for the control API's), a handler's error kind in `x-tangelo-function-error`, and the trace.
    ///
    /// # Errors
    /// What the door refuses, or why there is no answer.
    pub async fn direct(&self, ask: Ask) -> Result<Response<Body>, Error> {
        let callee = self.apps().by_name(&ask.workload, None)?;
        let trace = self.new_trace();
        if ask.deferred {
            let payload = ask
                .payload
                .unwrap_or(Value::Object(serde_json::Map::new()))
                .to_string();
            let cause = self.operator_cause(trace);
            let calls = self.calls();
            let id = calls.accept_payload(&callee, payload.into(), cause, None);
            return Ok(calls::accepted(id.await?));
        }
        let input = match ask.http {
            Some(http) => Input::http(http_request(http)?),
            None => Input::Payload(Bytes::from(ask.payload.unwrap_or(Value::Null).to_string())),
        };
        let invocation = self.invocation(
            &callee,
            Trigger::Direct,
            Class::Interactive,
            vec![Principal::Operator],
            trace,
        );
        let permit = self
            .dispatch()
            .admit(&callee, Class::Interactive)
            .map_err(|refused| refused.0)?;
        let answer = self.dispatch().invoke(permit, invocation, input);
        let mut response = answer.await?;
        let status = HeaderValue::from(response.status().as_u16());
        *response.status_mut() = http::StatusCode::OK;
        if let Some(FunctionError(kind)) = response.extensions().get::<FunctionError>().cloned() {
            response
                .headers_mut()
                .insert("x-tangelo-function-error", HeaderValue::from_static(kind));
        }
        response.headers_mut().insert("x-tangelo-status", status);
        if let Ok(trace) = HeaderValue::from_str(&trace.trace.to_string()) {
            response.headers_mut().insert("x-tangelo-trace", trace);
        }
        Ok(response)
    }

    /// A new invocation of `callee` from outside, with the whole of its timeout.
    #[must_use]
    pub fn invocation(
        &self,
        callee: &Arc<Callee>,
        trigger: Trigger,
        class: Class,
        principals: Vec<Principal>,
        trace: TraceContext,
    ) -> Invocation {
        Invocation {
            id: self.ids().invocation(self.clock()),
            target: Arc::clone(&callee.target),
            trigger,
            class,
            principals,
            trace,
            deadline: self.clock().monotonic() + callee.workload.timeout,
            depth: 1,
            idempotency_key: None,
            attempt: 1,
        }
    }

    /// A cause for work that an operator asks for.
    #[must_use]
    pub fn operator_cause(&self, trace: TraceContext) -> Cause {
        Cause::first(vec![Principal::Operator], trace)
    }
}

fn http_request(ask: HttpAsk) -> Result<Request<Body>, Error> {
    let wrong = |what: String| Error {
        category: Category::Invalid,
        ..Error::new(code::BAD_REQUEST, what)
    };
    let path = if ask.path.starts_with('/') {
        ask.path
    } else {
        format!("/{}", ask.path)
    };
    let mut request = Request::builder()
        .method(ask.method.as_str())
        .uri(path.as_str())
        .body(Body::full(ask.body))
        .map_err(|e| wrong(format!("`{} {path}` is no request: {e}", ask.method)))?;
    for (name, value) in ask.headers {
        let header = HeaderName::try_from(&name)
            .map_err(|_| wrong(format!("`{name}` is no header's name")))?;
        let value = HeaderValue::try_from(value)
            .map_err(|_| wrong(format!("the value of header `{name}` is not one")))?;
        request.headers_mut().insert(header, value);
    }
    Ok(request)
}
