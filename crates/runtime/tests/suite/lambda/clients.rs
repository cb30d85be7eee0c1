//! AWS's own runtime clients, unmodified: `awslambdaric` (PyPI), `aws-lambda-ric` (npm), `lambda_runtime` (crates.io).
//!
//! The first two are installed by `cargo xtask test` from `tests/clients`; without them these tests say that they
//! were skipped. The third is built here.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::BodyExt;
use runtime::{FunctionError, Input};
use serde_json::{Value, json};

use super::platform::{self, Lambda, Options};
use crate::support::eventually;

/// The same handler in each language: it shows its event and context, or fails in the way that the event says.
const PYTHON: &str = "
import os, time
def handler(event, context):
    if event == 'error': raise LookupError('no such order')
    if event == 'exit': os._exit(1)
    if event == 'hang': time.sleep(1000)
    if event == 'deep': return handler(event, context)
    print('working on', event)
    assert context.get_remaining_time_in_millis() > 0
    return {
        'event': event, 'id': context.aws_request_id, 'arn': context.invoked_function_arn,
        'trace': os.environ['_X_AMZN_TRACE_ID'], 'name': context.function_name, 'pid': os.getpid(),
        'client': context.client_context and context.client_context.custom,
    }
";
const NODE: &str = "
exports.handler = async (event, context) => {
  if (event === 'error') { const e = new Error('no such order'); e.name = 'LookupError'; throw e; }
  if (event === 'exit') process.exit(1);
  if (event === 'hang') await new Promise(() => setInterval(() => {}, 1000));
  console.log('working on', event);
  if (!(context.getRemainingTimeInMillis() > 0)) throw new Error('no time');
  return {
    event, id: context.awsRequestId, arn: context.invokedFunctionArn, trace: process.env._X_AMZN_TRACE_ID,
    name: context.functionName, pid: process.pid, client: context.clientContext?.custom ?? null,
  };
};";

const STREAMING_NODE: &str = "
const { existsSync } = require('node:fs');
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  if (event.rawPath !== '/stream') {
    stream.write('{}');
    if (event === 'late') { const e = new Error('no such order'); e.name = 'LookupError'; throw e; }
    stream.end();
    return;
  }
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'Content-Type': 'text/x-made' }, cookies: ['a=1'] });
  stream.write('first');
  while (!existsSync(`${process.env.TMPDIR}/go`)) await new Promise((yes) => setTimeout(yes, 5));
  stream.end('second');
});";

#[tokio::test]
async fn awslambdaric_for_python() {
    let Some(python) = installed("venv/bin/python") else {
        return;
    };
    let lambda = started_by(
        &format!("exec {} -m awslambdaric $_HANDLER", python.display()),
        "main.py",
        PYTHON,
    );
    works(&lambda).await;
    reports(&lambda, "error", "LookupError", "no such order").await;
    // A stack of a thousand frames makes a header of more than 64 KiB.
    let error = lambda.error(json!("deep")).await;
    assert_eq!(error["errorType"], "RecursionError");
    dies(&lambda).await;
    let absent = started_by(
        &format!("exec {} -m awslambdaric absent.handler", python.display()),
        "main.py",
        PYTHON,
    );
    reports(
        &absent,
        "error",
        "Runtime.ImportModuleError",
        "Unable to import module 'absent': No module named 'absent'",
    )
    .await;
}

#[tokio::test]
async fn aws_lambda_ric_for_node() {
    let Some(client) = installed("node_modules/aws-lambda-ric/index.mjs") else {
        return;
    };
    let Some(node) = node() else {
        return;
    };
    let bootstrap = format!("exec {} {}", node.display(), client.display());
    let lambda = started_by(&bootstrap, "main.js", NODE);
    works(&lambda).await;
    reports(&lambda, "error", "LookupError", "no such order").await;
    dies(&lambda).await;
    let broken = started_by(&bootstrap, "main.js", "throw new RangeError('not today')");
    reports(&broken, "error", "RangeError", "not today").await;
    // One instance at most: another would be started for who waits longer than this client takes to ask for more on a
    // machine that is busy, and hide that the first one was lost.
    let script = format!("#!/bin/sh\n{bootstrap}\n");
    let streaming = Options::provided(&script)
        .file("main.js", STREAMING_NODE)
        .change(|w| w.scale.max = 1)
        .start();
    streams(&streaming).await;
    // Between its answer and the end of its trailers this client asks for more: nobody else's work is disturbed.
    for _ in 0..5 {
        let error = streaming.error(json!("late")).await;
        assert_eq!(error["errorType"], "LookupError");
        assert_eq!(error["errorMessage"], "no such order");
    }
    assert_eq!(streaming.pool.stats().starts, 1);
}

#[tokio::test]
async fn lambda_runtime_for_rust() {
    let bootstrap = format!("exec {}", rust_guest().display());
    let lambda = started_by(&bootstrap, "unused", "");
    works(&lambda).await;
    let error = lambda.error(json!("error")).await;
    assert_eq!(error["errorMessage"], "no such order");
    let error = lambda.error(json!("panic")).await;
    assert!(
        error["errorMessage"]
            .as_str()
            .is_some_and(|m| m.contains("out of order")),
        "{error}"
    );
    times_out(&lambda).await;
    lambda.call(json!({})).await;
    streams(&lambda).await;
}

/// A streamed reply that is made while it is read, with its status and a cookie, and one that fails.
async fn streams(lambda: &Lambda) {
    let response = lambda.http(http::Request::get("/stream"), "").await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["content-type"], "text/x-made");
    assert_eq!(response.headers()["set-cookie"], "a=1");
    let mut body = response.into_body();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let frame = body.frame().await.expect("more").expect("no error");
        seen.extend_from_slice(&frame.into_data().expect("is data"));
    }
    assert_eq!(seen, b"first");
    for own in lambda.folders() {
        std::fs::write(own.join("go"), "").expect("can be written");
    }
    let rest = body.collect(model::ByteSize::mib(1)).await;
    assert_eq!(rest.expect("is whole"), "second");
    lambda.call(json!("not streamed")).await;
}

fn started_by(bootstrap: &str, file: &'static str, source: &str) -> Lambda {
    let script = format!("#!/bin/sh\n{bootstrap}\n");
    let options = Options::provided(&script).file(file, source);
    options
        .change(|w| w.timeout = Duration::from_secs(3))
        .start()
}

/// Calls of every size on one instance, with the whole context, and an HTTP request.
async fn works(lambda: &Lambda) {
    for payload in [
        json!({"a": [1, "ü\u{1f600}"]}),
        json!("x".repeat(1_000_000)),
        Value::Null,
    ] {
        let mut invocation = lambda.invocation(Duration::from_secs(30));
        invocation.idempotency_key = Some("key-\u{e9}".into());
        let id = invocation.id.to_string();
        let ran = lambda
            .pool
            .invoke(
                Arc::new(invocation),
                Input::Payload(payload.to_string().into()),
            )
            .await;
        let response = ran.response.expect("an answer");
        assert_eq!(response.extensions().get::<FunctionError>(), None);
        let got = platform::json(response).await;
        assert_eq!(
            (&got["event"], &got["id"], &got["name"]),
            (&payload, &json!(id), &json!("shop_hello"))
        );
        assert_eq!(
            got["arn"],
            "arn:aws:lambda:us-east-1:000000000000:function:shop_hello"
        );
        assert_eq!(
            got["trace"],
            "Root=1-00000000-000000000000000000000abc;Parent=0000000000000def;Sampled=1"
        );
        assert_eq!(got["client"], json!({"idempotency-key": "key-\u{e9}"}));
    }
    let response = lambda.http(http::Request::get("/path?q=1"), "").await;
    assert_eq!(platform::json(response).await["event"]["rawPath"], "/path");
    let calls = (0..20).map(|n| lambda.call(json!(n)));
    let all = futures_util::future::join_all(calls).await;
    assert!(
        all.iter().enumerate().all(|(n, got)| got["event"] == n),
        "every caller gets its own answer"
    );
}

async fn reports(lambda: &Lambda, event: &str, kind: &str, message: &str) {
    let error = lambda.error(json!(event)).await;
    assert_eq!(
        (&error["errorType"], &error["errorMessage"]),
        (&json!(kind), &json!(message))
    );
}

/// A process that ends in mid-work is reported, and another takes its place; so does one that hangs.
async fn dies(lambda: &Lambda) {
    let error = lambda.error(json!("exit")).await;
    assert_eq!(error["errorType"], "Runtime.ExitError");
    assert!(
        error["errorMessage"]
            .as_str()
            .is_some_and(|m| m.ends_with("exit status 1")),
        "{error}"
    );
    lambda.call(json!({})).await;
    times_out(lambda).await;
    lambda.call(json!({})).await;
}

/// The caller's deadline comes first; the handler's own timeout then ends the instance.
async fn times_out(lambda: &Lambda) {
    let hurried = lambda.invocation(Duration::from_millis(100));
    let ran = lambda
        .pool
        .invoke(Arc::new(hurried), Input::Payload("\"hang\"".into()))
        .await;
    let error = platform::json(ran.response.expect("an error object")).await;
    assert_eq!(error["errorType"], "Sandbox.Timedout");
    eventually("it is killed", || {
        lambda
            .notes()
            .iter()
            .any(|note| note.starts_with("timed out"))
    })
    .await;
}

/// A file below what `cargo xtask test` installs, or a word that it is not there.
pub(super) fn installed(file: &str) -> Option<PathBuf> {
    let path = target().join("tools/runtime").join(file);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "skipped: {} is not installed; `cargo xtask test` does that",
        path.display()
    );
    None
}

/// The Node that AWS's client is built for.
pub(super) fn node() -> Option<PathBuf> {
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    };
    installed(&format!("node_modules/node-linux-{arch}/bin/node"))
}

/// Cargo's target folder, wherever that is: the test itself lies in it.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a file");
    let marked = |folder: &&Path| folder.join("CACHEDIR.TAG").is_file();
    let target = test.ancestors().find(marked);
    target.expect("cargo marks its target folder").to_owned()
}

/// Builds the guest; cargo itself locks the folder and knows when nothing is to be done.
pub(super) fn rust_guest() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/lambda-rust/Cargo.toml");
    let folder = target().join("guests");
    let built = std::process::Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked"])
        .args([
            Path::new("--manifest-path"),
            &source,
            Path::new("--target-dir"),
            &folder,
        ])
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo runs");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    folder.join("debug/bootstrap")
}
