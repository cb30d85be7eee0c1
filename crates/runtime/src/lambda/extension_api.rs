//! The Lambda Extensions API, version 2020-01-01
//! (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html>): what an extension asks for, and the
//! answers' bytes. Pure: no I/O, no state.

use bytes::Bytes;
use model::code;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{environment::VERSION, protocol::Metadata, wire::Method};

const PREFIX: &str = "/2020-01-01/extension/";
/// Where extensions subscribe to logs and telemetry, whatever the version: nothing is served there.
const SUBSCRIPTIONS: [&str; 2] = ["/logs", "/telemetry"];
/// The longest name of an extension, in bytes.
pub(crate) const MAX_NAME: usize = 128;

/// What an extension asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// To be told of events, from now on.
    Register,
    /// The next event: answered when there is one.
    Next,
    /// It could not begin.
    InitError,
    /// It ends because of an error.
    ExitError,
    /// To be sent logs or telemetry.
    Subscribe,
}

/// The headers of a request that only extensions send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers {
    /// `Lambda-Extension-Name`.
    pub(crate) name: Option<String>,
    /// `Lambda-Extension-Identifier`.
    pub(crate) identifier: Option<String>,
    /// `Lambda-Extension-Function-Error-Type`.
    pub(crate) error_type: Option<String>,
}

/// Why an extension is refused: AWS's words, each a 403.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The name is missing or too long.
    Name,
    /// The instance asks for work already.
    Closed,
    /// There is one of this name already.
    Registered,
    /// There are as many as there may be.
    TooMany,
    /// It may not be told of this event, for this reason.
    Event(String, &'static str),
    /// The body of a registration is none.
    Format(String),
    /// A header is missing.
    Missing(&'static str),
    /// The identifier is none.
    Identifier,
    /// There is no extension with this identifier.
    Unknown(String),
    /// It may not ask for this after that.
    State(&'static str, &'static str, String),
    /// There is no such subscription.
    Subscription,
}

/// What an extension wants to be told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) invoke: bool,
    pub(crate) shutdown: bool,
}

/// Why an instance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is not needed any more.
    Spindown,
    /// An invocation ran out of time.
    Timeout,
    /// It failed.
    Failure,
}

impl Call {
    /// What a request for `path` asks for: `None` when it is no extension's; `Some(None)` for another method.
    pub(crate) fn of(method: Method, path: &str) -> Option<Option<Self>> {
        if let Some(call) = path.strip_prefix(PREFIX) {
            let (its, call) = match call {
                "register" => (Method::Post, Self::Register),
                "event/next" => (Method::Get, Self::Next),
                "init/error" => (Method::Post, Self::InitError),
                "exit/error" => (Method::Post, Self::ExitError),
                _ => return None,
            };
            return Some((its == method).then_some(call));
        }
        let (version, rest) = path.strip_prefix('/')?.split_at_checked(10)?;
        let dated = version.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        (dated && SUBSCRIPTIONS.contains(&rest)).then_some(Some(Self::Subscribe))
    }
}

/// What the body of a registration wants; an `external` extension may be told of the end, and one in an instance
/// that works on `several` invocations at a time is told of none of them.
pub(crate) fn wants(body: &[u8], external: bool, several: bool) -> Result<Wants, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        events: Vec<String>,
    }
    let format = |e: serde_json::Error| Refusal::Format(e.to_string());
    let body: Body = serde_json::from_slice(body).map_err(format)?;
    let mut wants = Wants::default();
    for event in body.events {
        match event.as_str() {
            "INVOKE" if several => {
                let why = "an instance that works on several invocations at a time tells of none";
                return Err(Refusal::Event(event, why));
            }
            "INVOKE" => wants.invoke = true,
            "SHUTDOWN" if external => wants.shutdown = true,
            "SHUTDOWN" => {
                let why = "ShutdownEventNotSupportedForInternalExtension";
                return Err(Refusal::Event(event, why));
            }
            _ => {
                let cut = event.chars().take(MAX_NAME).collect();
                return Err(Refusal::Event(cut, "ErrorInvalidEventType"));
            }
        }
    }
    Ok(wants)
}

impl Refusal {
    fn words(&self) -> (&'static str, String) {
        match self {
            Self::Name => (
                "Extension.InvalidExtensionName",
                "Empty extension name".into(),
            ),
            Self::Closed => (
                "Extension.RegistrationClosed",
                "Extension registration is closed".into(),
            ),
            Self::Registered => (
                "Extension.AlreadyRegistered",
                "Extension already registered".into(),
            ),
            Self::TooMany => (
                "Extension.TooManyExtensions",
                "Extension limit (10) reached".into(),
            ),
            Self::Event(event, why) => ("Extension.InvalidEventType", format!("{event}: {why}")),
            Self::Format(why) => ("InvalidRequestFormat", why.clone()),
            Self::Missing("Lambda-Extension-Identifier") => (
                "Extension.MissingExtensionIdentifier",
                "Missing Lambda-Extension-Identifier header".into(),
            ),
            Self::Missing(header) => ("Extension.MissingHeader", format!("{header} not found")),
            Self::Identifier => (
                "Extension.InvalidExtensionIdentifier",
                "Invalid Lambda-Extension-Identifier".into(),
            ),
            Self::Unknown(id) => (
                "Extension.UnknownExtensionIdentifier",
                format!("Unknown extension {id}"),
            ),
            Self::State(from, to, id) => (
                "Extension.InvalidExtensionState",
                format!(
                    "State transition from {from} to {to} failed for extension {id}. Error: State transition is not allowed"
                ),
            ),
            Self::Subscription => ("Telemetry.NotSupported", {
                let code = code::NO_TELEMETRY_API;
                format!(
                    "{code}: nothing is sent to extensions: read logs with `tangelo logs`, or export them with OTLP"
                )
            }),
        }
    }

    /// The whole response.
    pub(crate) fn response(&self) -> Bytes {
        let (kind, message) = self.words();
        let object = json!({"errorMessage": message, "errorType": kind});
        respond("403 Forbidden", "", &object)
    }
}

/// The answer to a registration; `function` is the function's name.
pub(crate) fn registered(identifier: &str, function: &str, handler: &str) -> Bytes {
    let header = format!("Lambda-Extension-Identifier: {identifier}\r\n");
    let object = json!({"functionName": function, "functionVersion": VERSION, "handler": handler});
    respond("200 OK", &header, &object)
}

/// The event of an invocation.
pub(crate) fn invoke(metadata: &Metadata) -> Value {
    let mut event = json!({
        "eventType": "INVOKE",
        "deadlineMs": metadata.deadline_ms,
        "requestId": metadata.request_id,
        "invokedFunctionArn": metadata.function_arn,
    });
    if let Some(trace) = &metadata.trace {
        event["tracing"] = json!({"type": "X-Amzn-Trace-Id", "value": trace});
    }
    event
}

/// The event of the end, which comes at `deadline_ms` (milliseconds since 1970).
pub(crate) fn shutdown(reason: Reason, deadline_ms: u64) -> Value {
    let reason = match reason {
        Reason::Spindown => "spindown",
        Reason::Timeout => "timeout",
        Reason::Failure => "failure",
    };
    json!({"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline_ms})
}

/// The answer to `next` that brings an event.
pub(crate) fn event(identifier: &str, event: &Value) -> Bytes {
    let header = format!("Lambda-Extension-Event-Identifier: {identifier}\r\n");
    respond("200 OK", &header, event)
}

/// The error object that a failure leaves to whoever waits: what the extension posted, or else says.
pub(crate) fn failure(kind: &str, message: &str) -> Bytes {
    Bytes::from(json!({"errorMessage": message, "errorType": kind}).to_string())
}

fn respond(status: &str, headers: &str, object: &Value) -> Bytes {
    let body = object.to_string();
    Bytes::from(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths() {
        let post = |path: &str| Call::of(Method::Post, path);
        assert_eq!(
            post("/2020-01-01/extension/register"),
            Some(Some(Call::Register))
        );
        assert_eq!(post("/2020-01-01/extension/event/next"), Some(None));
        assert_eq!(
            Call::of(Method::Get, "/2020-01-01/extension/event/next"),
            Some(Some(Call::Next))
        );
        assert_eq!(
            Call::of(Method::Other, "/2022-07-01/telemetry"),
            Some(Some(Call::Subscribe))
        );
        assert_eq!(
            Call::of(Method::Other, "/2020-08-15/logs"),
            Some(Some(Call::Subscribe))
        );
        for none in [
            "/",
            "/2020-01-01/extension/",
            "/2018-06-01/runtime/invocation/next",
            "/2020-08-1é/logs",
        ] {
            assert_eq!(post(none), None, "{none}");
        }
    }

    #[test]
    fn registrations_want_what_they_may() {
        let both = br#"{"events": ["INVOKE", "SHUTDOWN"], "more": 1}"#;
        let all = Wants {
            invoke: true,
            shutdown: true,
        };
        assert_eq!(wants(both, true, false), Ok(all));
        assert_eq!(wants(b"{}", false, false), Ok(Wants::default()));
        let refused = |body: &[u8], external, several| {
            let refusal = wants(body, external, several).expect_err("is refused");
            refusal.words().0
        };
        assert_eq!(refused(both, false, false), "Extension.InvalidEventType");
        assert_eq!(refused(both, true, true), "Extension.InvalidEventType");
        assert_eq!(
            refused(br#"{"events": ["invoke"]}"#, true, false),
            "Extension.InvalidEventType"
        );
        assert_eq!(refused(b"[", true, false), "InvalidRequestFormat");
    }

    proptest! {
        #[test]
        fn any_registration_is_read_or_refused_in_one_message(bytes: Vec<u8>, text in "\\PC{0,40}") {
            let named = json!({"events": [text]}).to_string();
            for body in [&bytes[..], named.as_bytes()] {
                if let Err(refusal) = wants(body, true, false) {
                    let response = refusal.response();
                    let whole = std::str::from_utf8(&response).expect("is text");
                    let (head, body) = whole.split_once("\r\n\r\n").expect("has a head");
                    let length = format!("Content-Length: {}", body.len());
                    prop_assert!(head.contains(&length) && head.starts_with("HTTP/1.1 403"));
                }
            }
        }
    }
}
