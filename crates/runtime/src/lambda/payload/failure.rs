//! Lambda's error objects: what a caller of `Invoke` reads when a function failed, and what a failed function says
//! about itself in one line. Pure.

use bytes::Bytes;
use model::{ByteSize, InvocationId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::launcher::Exit;

/// The longest description of a failure that goes into an error's context, in characters.
const LONGEST: usize = 1024;

/// The parts of an error object that describe it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorObject {
    #[serde(default)]
    error_type: Option<String>,
    #[serde(default)]
    error_message: Option<String>,
}

/// The handler took too long.
#[must_use]
pub fn timed_out(id: InvocationId, seconds: f64) -> Bytes {
    let message = format!("RequestId: {id} Error: Task timed out after {seconds:.2} seconds");
    object("Sandbox.Timedout", &message)
}

/// The process ended in mid-invocation.
#[must_use]
pub fn exited(id: InvocationId, exit: Option<Exit>) -> Bytes {
    object(
        "Runtime.ExitError",
        &format!("RequestId: {id} Error: {}", exit_text(exit)),
    )
}

/// The instance had more than `limit` in its temporary folder.
#[must_use]
pub fn overflowed(id: Option<InvocationId>, limit: ByteSize) -> Bytes {
    let request = id.map_or_else(String::new, |id| format!("RequestId: {id} "));
    let message = format!("{request}Error: the temporary folder holds more than {limit}");
    object("Runtime.ExitError", &message)
}

/// The instance did not become ready in time.
#[must_use]
pub fn init_timed_out(id: InvocationId, seconds: f64) -> Bytes {
    let message = format!("RequestId: {id} Error: Init timed out after {seconds:.2} seconds");
    object("Sandbox.Timedout", &message)
}

/// The handler's reply is larger than `limit`.
#[must_use]
pub fn reply_too_large(limit: ByteSize) -> Bytes {
    let message = format!(
        "Response payload size exceeded maximum allowed payload size ({} bytes).",
        limit.0
    );
    object("Function.ResponseSizeTooLarge", &message)
}

/// What the runtime client posted, or an object around it when it is no JSON.
#[must_use]
pub fn posted(body: Bytes, error_type: Option<&str>) -> Bytes {
    if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
        return body;
    }
    let text: String = String::from_utf8_lossy(&body)
        .chars()
        .take(LONGEST)
        .collect();
    object(error_type.unwrap_or("Unhandled"), &text)
}

/// How AWS words the end of a process.
#[must_use]
pub fn exit_text(exit: Option<Exit>) -> String {
    match exit {
        Some(Exit { code: Some(0), .. }) => "Runtime exited without providing a reason".to_owned(),
        Some(Exit {
            code: Some(code), ..
        }) => {
            format!("Runtime exited with error: exit status {code}")
        }
        Some(Exit {
            signal: Some(signal),
            ..
        }) => {
            format!("Runtime exited with error: signal: {}", signal_text(signal))
        }
        _ => "Runtime exited without providing a reason".to_owned(),
    }
}

/// A signal in the words that Lambda has for it, those of Go on Linux.
fn signal_text(signal: i32) -> String {
    let known = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        other => return format!("signal {other}"),
    };
    known.to_owned()
}

/// One line about an error object: `ValueError: no such order`.
#[must_use]
pub fn describe(body: &[u8]) -> String {
    let line = match serde_json::from_slice::<ErrorObject>(body) {
        Ok(ErrorObject {
            error_type: Some(kind),
            error_message: Some(message),
        }) => format!("{kind}: {message}"),
        Ok(
            ErrorObject {
                error_type: Some(one),
                ..
            }
            | ErrorObject {
                error_message: Some(one),
                ..
            },
        ) => one,
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    line.chars().take(LONGEST).collect()
}

fn object(error_type: &str, message: &str) -> Bytes {
    let object: Value = json!({"errorType": error_type, "errorMessage": message});
    Bytes::from(object.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_worded_as_aws_words_them() {
        let id = "00000000-0000-0000-0000-000000000007"
            .parse()
            .expect("is an id");
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("is text");
        assert_eq!(
            text(timed_out(id, 3.0)),
            r#"{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: 00000000-0000-0000-0000-000000000007 Error: Task timed out after 3.00 seconds"}"#
        );
        let one = Exit {
            code: Some(1),
            signal: None,
            out_of_memory: false,
        };
        assert_eq!(
            text(exited(id, Some(one))),
            r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: 00000000-0000-0000-0000-000000000007 Error: Runtime exited with error: exit status 1"}"#
        );
        let killed = Exit {
            code: None,
            signal: Some(9),
            out_of_memory: false,
        };
        assert_eq!(
            exit_text(Some(killed)),
            "Runtime exited with error: signal: killed"
        );
        let crashed = Exit {
            signal: Some(11),
            ..killed
        };
        assert_eq!(
            exit_text(Some(crashed)),
            "Runtime exited with error: signal: segmentation fault"
        );
    }

    #[test]
    fn errors_are_described_in_one_line() {
        for (body, line) in [
            (
                r#"{"errorType":"ValueError","errorMessage":"no"}"#,
                "ValueError: no",
            ),
            (r#"{"errorMessage":"no"}"#, "no"),
            (r#"{"errorType":"X"}"#, "X"),
            ("plain", "plain"),
        ] {
            assert_eq!(describe(body.as_bytes()), line);
        }
        assert_eq!(describe("x".repeat(9000).as_bytes()).len(), LONGEST);
        let kept = Bytes::from_static(b"{\"a\":1}");
        assert_eq!(posted(kept.clone(), None), kept);
        let wrapped = posted(Bytes::from_static(b"boom"), Some("Runtime.Bad"));
        assert_eq!(describe(&wrapped), "Runtime.Bad: boom");
    }
}
