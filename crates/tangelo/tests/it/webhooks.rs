//! A webhook: a function that checks the sender's signature, takes what is signed, and hands it on as an event, so that
//! the work behind it is retried. Nothing is lost when two hundred come at once to a function that was at zero.

use std::collections::BTreeSet;

use anyhow::Result;
use bytes::Bytes;
use http::{Method, StatusCode};
use sha2::{Digest, Sha256};
use testkit::{Client, Server, eventually};
use tokio::task::JoinSet;

const TANGELO: &str = env!("CARGO_BIN_EXE_tangelo");

/// The secret and the signature of `Hello, World!` that GitHub's documentation gives for trying one's code.
const SECRET: &str = "It's a Secret to Everybody";
const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

const BURST: usize = 200;

const MANIFEST: &str = "
app: hooks
workloads:
  hook:
    as: function
    run: {lambda: {runtime: python3, handler: hook.handler, code: functions}}
    scale: {max: 10, concurrency: 20}
    secrets: [WEBHOOK_SECRET]
    publishes: [push.received]
    timeout: 60s
  work:
    as: function
    run: {lambda: {runtime: python3, handler: work.handler, code: functions}}
    scale: {max: 2}
    state: [folder]
    on:
      - event: {type: [push.received]}
        retry: {attempts: 5, backoff: 10ms, max_backoff: 50ms}
gateway:
  routes:
    - {path: /hook, methods: [POST], to: hook}
    - {path: /plain, methods: [POST], to: work}
";

/// As GitHub's documentation checks it: over the raw body, compared in constant time.
const HOOK: &str = r#"
import base64, hashlib, hmac, json, os
from urllib.request import Request, urlopen

def handler(event, context):
    body = event.get("body") or ""
    raw = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    expected = "sha256=" + hmac.new(os.environ["WEBHOOK_SECRET"].encode(), raw, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, event["headers"].get("x-hub-signature-256", "")):
        return {"statusCode": 401, "body": "the signature is wrong"}
    received = Request(
        os.environ["TANGELO_EVENTS_URL"],
        data=json.dumps({"text": raw.decode()}).encode(),
        headers={
            "content-type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": event["headers"]["x-github-delivery"],
            "ce-source": "/hooks",
            "ce-type": "push.received",
        },
    )
    urlopen(received).read()
    return {"statusCode": 202, "body": "thank you"}
"#;

/// Fails at every tenth on its first attempt, and notes what it did.
const WORK: &str = r#"
import os

def handler(event, context):
    if "detail" not in event:
        with open(os.path.join(os.environ["TANGELO_STATE_DIR"], "done")) as done:
            return done.read()
    text = event["detail"]["text"]
    tried = os.path.join(os.environ["TANGELO_STATE_DIR"], text.replace(" ", "-"))
    if text.endswith("0") and not os.path.exists(tried):
        open(tried, "w").close()
        raise RuntimeError("not at the first attempt")
    with open(os.path.join(os.environ["TANGELO_STATE_DIR"], "done"), "a") as done:
        done.write(text + "\n")
"#;

/// HMAC-SHA-256 (RFC 2104), as the sender makes it.
fn signature(secret: &str, body: &[u8]) -> String {
    let mut key = [0; 64];
    key[..secret.len()].copy_from_slice(secret.as_bytes());
    let padded = |pad: u8| key.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(body);
    let outer = Sha256::new()
        .chain_update(padded(0x5c))
        .chain_update(inner.finalize());
    let hex: String = outer
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256={hex}")
}

async fn send(gateway: &Client, id: &str, body: &str, signature: &str) -> Result<StatusCode> {
    let headers = [
        ("content-type", "application/json"),
        ("x-github-event", "push"),
        ("x-github-delivery", id),
        ("x-hub-signature-256", signature),
    ];
    let body = Bytes::from(body.to_owned());
    let answer = gateway.send(Method::POST, "/hook", &headers, body).await?;
    Ok(answer.status)
}

async fn done(server: &Server) -> Option<Vec<String>> {
    let answer = server
        .gateway()
        .send(Method::POST, "/plain", &[], Bytes::new())
        .await;
    let answer = answer
        .ok()
        .filter(|answer| answer.status == StatusCode::OK)?;
    Some(answer.text().lines().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_webhooks_are_taken_and_none_of_a_burst_is_lost() -> Result<()> {
    assert_eq!(signature(SECRET, b"Hello, World!"), SIGNATURE);
    let folder = tempfile::tempdir()?;
    let secrets = folder.path().join("secrets.toml");
    std::fs::write(&secrets, format!("WEBHOOK_SECRET = \"{SECRET}\"\n"))?;
    let secrets = secrets.display().to_string();
    let server = Server::start_with(TANGELO, &["--secrets", &secrets])?;
    server.deploy(&[
        ("tangelo.yaml", MANIFEST),
        ("functions/hook.py", HOOK),
        ("functions/work.py", WORK),
    ])?;
    // All at once, to a function that no instance runs of yet: harder than two hundred within a second.
    let mut burst = JoinSet::new();
    for number in 0..BURST {
        let gateway = server.gateway();
        burst.spawn(async move {
            let body = format!("push {number}");
            let signed = signature(SECRET, body.as_bytes());
            send(&gateway, &format!("delivery-{number}"), &body, &signed).await
        });
    }
    while let Some(status) = burst.join_next().await {
        assert_eq!(status??, StatusCode::ACCEPTED);
    }
    let gateway = server.gateway();
    assert_eq!(
        send(&gateway, "documented", "Hello, World!", SIGNATURE).await?,
        StatusCode::ACCEPTED
    );
    for wrong in ["", "sha256=", &SIGNATURE.replace('7', "8"), &SIGNATURE[7..]] {
        let status = send(&gateway, "forged", "Hello, World!", wrong).await?;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{wrong:?}");
    }
    let tampered = send(&gateway, "tampered", "Hello, World?", SIGNATURE).await?;
    assert_eq!(tampered, StatusCode::UNAUTHORIZED);
    let all: BTreeSet<String> = (0..BURST)
        .map(|number| format!("push {number}"))
        .chain(["Hello, World!".to_owned()])
        .collect();
    let lines = eventually("all that was taken is done", || async {
        let lines = done(&server).await?;
        (lines.len() >= all.len()).then_some(lines)
    })
    .await;
    assert_eq!(lines.iter().cloned().collect::<BTreeSet<_>>(), all);
    Ok(())
}
