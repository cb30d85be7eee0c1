//! The listing of the second document about calls between the kinds: a handler that calls a service, and a service that
//! invokes functions with AWS's SDK.

use anyhow::Result;
use http::{Method, StatusCode};
use serde_json::json;
use testkit::{Answer, Server, eventually};

use super::{document, javascript, listing::CALLS, node_modules};
use crate::{python, server};

/// `MODULES` is the folder of the packages.
const MANIFEST: &str = "
app: mixed
workloads:
  checkout:
    as: function
    run: {lambda: {runtime: nodejs, handler: listing.handler, code: functions}}
    calls: [order-service]
    env: {NODE_PATH: MODULES}
  order-service:
    as: service
    run: {process: {command: [python3, orders.py]}}
  container:
    as: service
    run: {process: {command: [node, container.cjs], files: [functions/listing.js]}}
    calls: [data-processor, async-handler]
    env: {NODE_PATH: MODULES}
  data-processor:
    as: function
    run: {lambda: {runtime: python3, handler: data.handler, code: functions/data.py}}
  async-handler:
    as: function
    run: {lambda: {runtime: python3, handler: data.handler, code: functions/data.py}}
gateway:
  routes:
    - {path: /checkout, methods: [POST], to: checkout}
    - {path: /container/*, methods: [POST], to: container, rewrite: /*}
";

/// Answers 201, or 503 when it is told that it is full. When it is told to be slow it answers nothing at all, until
/// the caller has gone.
const ORDERS: &str = r#"
class Handler(Answers):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        if body == "slow":
            self.connection.recv(1)
            print("the caller has gone", flush=True)
            return
        answer = {"path": self.path, "body": body, "request": self.headers["x-request-id"]}
        self.answer(503 if body == "full" else 201, answer)
"#;

const DATA: &str = r#"
def handler(event, context):
    print("processing", event)
    if event.get("fail"):
        raise ValueError("as asked")
    return {"processed": event}
"#;

/// A server with both sides of the listing on it; nothing where the document is absent.
fn deployed() -> Result<Option<Server>> {
    let Some(text) = document("001_") else {
        return Ok(None);
    };
    let modules = node_modules();
    let manifest = MANIFEST.replace("MODULES", &modules.to_string_lossy());
    let server = server();
    server.deploy(&[
        ("tangelo.yaml", &manifest),
        ("functions/listing.js", &javascript(&text, &CALLS)?),
        ("functions/data.py", DATA),
        ("orders.py", &python::service(ORDERS)),
        ("container.cjs", include_str!("container.cjs")),
    ])?;
    Ok(Some(server))
}

async fn checkout(server: &Server, body: &'static str) -> Result<Answer> {
    let headers = [("content-type", "text/plain")];
    let gateway = server.gateway();
    gateway
        .send(Method::POST, "/checkout", &headers, body.into())
        .await
}

async fn logged(server: &Server, workload: &str, words: &str) {
    eventually(words, || async {
        let output = server.cli(&["logs", workload]).ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.contains(words).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_handler_calls_a_service_and_fails_when_the_service_does() -> Result<()> {
    let Some(server) = deployed()? else {
        return Ok(());
    };
    let answer = checkout(&server, "two films").await?;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    assert_eq!(
        answer.json(),
        json!({"path": "/orders", "body": "two films", "request": answer.header("x-request-id")})
    );
    let failed = checkout(&server, "full").await?;
    assert_eq!(
        (failed.status, &failed.json()["code"]),
        (StatusCode::BAD_GATEWAY, &"TG0409".into())
    );
    logged(&server, "checkout", "error: 503").await;
    Ok(())
}

/// Takes the 25 seconds that the handler waits, because they are written in it.
#[tokio::test]
async fn a_handler_gives_a_slow_service_up_before_its_own_time_is_over() -> Result<()> {
    let Some(server) = deployed()? else {
        return Ok(());
    };
    let failed = checkout(&server, "slow").await?;
    // 502 and not 504: the handler ended, it was not cut off.
    assert_eq!(
        (failed.status, &failed.json()["code"]),
        (StatusCode::BAD_GATEWAY, &"TG0409".into()),
        "{}",
        failed.text()
    );
    logged(&server, "checkout", "TimeoutError").await;
    logged(&server, "order-service", "the caller has gone").await;
    Ok(())
}

#[tokio::test]
async fn a_service_invokes_functions_with_the_sdk() -> Result<()> {
    let Some(server) = deployed()? else {
        return Ok(());
    };
    let gateway = server.gateway();
    let good = gateway
        .post("/container/process", &json!({"films": 2}))
        .await?;
    assert_eq!(good.status, StatusCode::OK, "{}", good.text());
    assert_eq!(good.json(), json!({"processed": {"films": 2}}));
    let bad = gateway
        .post("/container/process", &json!({"fail": true}))
        .await?;
    let said = bad.json()["error"].to_string();
    assert!(said.ends_with("Unhandled\""), "{said}");
    let later = gateway
        .post("/container/trigger", &json!({"films": 3}))
        .await?;
    assert_eq!(later.status, StatusCode::OK, "{}", later.text());
    logged(&server, "async-handler", "processing {'films': 3}").await;
    Ok(())
}
