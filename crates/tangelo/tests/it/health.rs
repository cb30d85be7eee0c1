//! Whether the platform is alive and ready, and whether an app is well, as probes and load balancers ask it.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use testkit::eventually;

use crate::{ECHO, server};

const MANIFEST: &str = "
app: well
workloads:
  echo:
    as: service
    run: {process: {command: [python3, echo.py]}}
  confirm:
    as: function
    run: {lambda: {runtime: python3, handler: confirm.handler, code: confirm}}
  partner:
    as: service
    run: {external: {url: 'http://127.0.0.1:9'}}
gateway:
  routes:
    - {path: /echo, to: echo}
";

/// Serves until the file `ill` is there; then it ends, and every one after it.
const FRAIL: &str = "
import os, sys, threading, time
def watch():
    while not os.path.exists(os.path.join(os.environ['TANGELO_STATE_DIR'], 'ill')):
        time.sleep(0.01)
    os._exit(1)
threading.Thread(target=watch).start()
";

#[tokio::test]
async fn an_app_is_as_well_as_its_workloads() -> Result<()> {
    let server = server();
    let manifest = MANIFEST.replace("echo.py]}}", "echo.py]}}\n    state: [folder]");
    let frail = format!("{FRAIL}{ECHO}");
    server.deploy(&[
        ("tangelo.yaml", &manifest),
        ("echo.py", &frail),
        (
            "confirm/confirm.py",
            "def handler(event, context): return 1",
        ),
    ])?;
    let gateway = server.gateway();
    let all = gateway.get("/_tangelo/health").await?;
    assert_eq!(
        (all.status, all.json()),
        (
            StatusCode::OK,
            json!({"healthy": true, "apps": [{"app": "well", "healthy": true}]})
        )
    );
    let app = gateway.get("/_tangelo/health/well").await?;
    assert_eq!(app.status, StatusCode::OK);
    let workload = |document: &serde_json::Value, name: &str| {
        let rows = document["workloads"].as_array().cloned();
        rows.unwrap_or_default()
            .into_iter()
            .find(|row| row["workload"] == name)
            .unwrap_or_default()
    };
    let document = app.json();
    for (name, ready, reason) in [
        ("echo", 1, "1 ready"),
        ("confirm", 0, "starts on the first request"),
        ("partner", 0, "someone else's: not watched"),
    ] {
        let row = workload(&document, name);
        assert_eq!(
            (&row["healthy"], &row["ready"], &row["reason"]),
            (&true.into(), &ready.into(), &reason.into()),
            "{document}"
        );
    }
    std::fs::write(server.data().join("state/well/echo/ill"), "")?;
    let ill = eventually("the app is not well", || async {
        let answer = gateway.get("/_tangelo/health/well").await.ok()?;
        (answer.status == StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
    })
    .await;
    let document = ill.json();
    assert_eq!(workload(&document, "echo")["healthy"], false, "{document}");
    assert_eq!(workload(&document, "confirm")["healthy"], true);
    Ok(())
}

#[tokio::test]
async fn health_of_what_is_not_there_is_a_problem_document() -> Result<()> {
    let server = server();
    let gateway = server.gateway();
    let empty = gateway.get("/_tangelo/health").await?;
    assert_eq!(
        (empty.status, empty.json()),
        (StatusCode::OK, json!({"healthy": true, "apps": []}))
    );
    let missing = gateway.get("/_tangelo/health/nobody").await?;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(missing.header("content-type"), "application/problem+json");
    let posted = gateway
        .send(Method::POST, "/_tangelo/health", &[], Bytes::new())
        .await?;
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
    Ok(())
}

#[tokio::test]
async fn a_server_is_ready_until_it_is_told_to_stop_and_alive_to_its_end() -> Result<()> {
    const SLOW: &str = "
import os, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        state = os.environ['TANGELO_STATE_DIR']
        open(os.path.join(state, 'begun'), 'w').close()
        while not os.path.exists(os.path.join(state, 'go')):
            time.sleep(0.01)
        self.send_response(200)
        self.send_header('content-length', '0')
        self.end_headers()
HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";
    let manifest = "
app: slow
workloads:
  slow:
    as: service
    run: {process: {command: [python3, slow.py]}}
    state: [folder]
gateway: {routes: [{path: /, to: slow}]}
";
    let mut server = server();
    server.deploy(&[("tangelo.yaml", manifest), ("slow.py", SLOW)])?;
    let control = server.control();
    assert_eq!(control.get("/healthz").await?.json()["status"], "ok");
    let ready = control.get("/readyz").await?;
    assert_eq!(
        (ready.status, ready.json()),
        (StatusCode::OK, json!({"ready": true}))
    );
    let gateway = server.gateway();
    let asked = tokio::spawn(async move { gateway.get("/").await });
    let state = server.data().join("state/slow/slow");
    eventually("the request is under way", || async {
        state.join("begun").exists().then_some(())
    })
    .await;
    server.tell_to_stop()?;
    let draining = eventually("the server says that it is stopping", || async {
        let answer = control.get("/readyz").await.ok()?;
        (answer.status == StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
    })
    .await;
    assert_eq!(draining.json()["ready"], false);
    assert_eq!(control.get("/healthz").await?.status, StatusCode::OK);
    std::fs::write(state.join("go"), "")?;
    assert_eq!(asked.await??.status, StatusCode::OK, "it was finished");
    server.stop()
}
