//! A function that routes events to services by their content: it reads each, and calls the one that it is for.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::server;

const MANIFEST: &str = "
app: parcels
workloads:
  router:
    as: function
    run: {lambda: {runtime: python3, handler: router.handler, code: functions}}
    calls: [letters, freight, customs]
    on:
      - event: {type: [parcel.arrived]}
        retry: {attempts: 5, backoff: 10ms, max_backoff: 50ms}
  letters: {as: service, run: {process: {command: [python3, depot.py]}}, state: [folder]}
  freight: {as: service, run: {process: {command: [python3, depot.py]}}, state: [folder]}
  customs: {as: service, run: {process: {command: [python3, depot.py]}}, state: [folder]}
gateway:
  routes:
    - {path: /letters, to: letters}
    - {path: /freight, to: freight}
    - {path: /customs, to: customs}
";

/// Where a parcel goes depends on what is in the event, beyond what a pattern can say.
const ROUTER: &str = r#"
import json, os
from urllib.request import Request, urlopen

def depot(parcel):
    if parcel["from"] != parcel["to"]:
        return "CUSTOMS"
    return "FREIGHT" if sum(piece["grams"] for piece in parcel["pieces"]) > 2000 else "LETTERS"

def handler(event, context):
    url = os.environ[depot(event["detail"]) + "_URL"]
    body = json.dumps({"id": event["id"], "parcel": event["detail"]}).encode()
    urlopen(Request(url + "/take", data=body, headers={"content-type": "application/json"})).read()
"#;

/// Keeps what it takes; refuses what says so, the first time.
const DEPOT: &str = r#"
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

path, refused = os.path.join(os.environ["TANGELO_STATE_DIR"], "taken"), set()

class Depot(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, [json.loads(line) for line in open(path)] if os.path.exists(path) else [])
    def do_POST(self):
        taken = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if taken["parcel"].get("awkward") and taken["id"] not in refused:
            refused.add(taken["id"])
            return self.answer(503, None)
        with open(path, "a") as file:
            file.write(json.dumps(dict(taken, trace=self.headers["traceparent"].split("-")[1])) + "\n")
        self.answer(200, None)
    def answer(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Depot).serve_forever()
"#;

async fn taken(server: &Server, depot: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{depot} takes {count}"), || async {
        let answer = server.gateway().get(&format!("/{depot}")).await.ok()?;
        let taken = answer.json().as_array().cloned()?;
        (taken.len() >= count).then_some(taken)
    })
    .await
}

#[tokio::test]
async fn a_router_function_sends_each_event_to_the_service_that_its_content_says() -> Result<()> {
    let server = server();
    server.deploy(&[
        ("tangelo.yaml", MANIFEST),
        ("functions/router.py", ROUTER),
        ("depot.py", DEPOT),
    ])?;
    let parcels = [
        (
            "l-1",
            json!({"from": "DE", "to": "DE", "pieces": [{"grams": 20}]}),
        ),
        (
            "f-1",
            json!({"from": "DE", "to": "DE", "pieces": [{"grams": 1900}, {"grams": 200}]}),
        ),
        (
            "c-1",
            json!({"from": "DE", "to": "CH", "pieces": [{"grams": 20}]}),
        ),
        (
            "f-2",
            json!({"from": "CH", "to": "CH", "pieces": [{"grams": 9000}], "awkward": true}),
        ),
        ("l-2", json!({"from": "CH", "to": "CH", "pieces": []})),
    ];
    for (id, parcel) in &parcels {
        let said = [
            "publish",
            "parcel.arrived",
            "--id",
            id,
            "-d",
            &parcel.to_string(),
        ];
        server.json(&said)?;
    }
    for (depot, expected) in [
        ("letters", ["l-1", "l-2"].as_slice()),
        ("freight", &["f-1", "f-2"]),
        ("customs", &["c-1"]),
    ] {
        let taken = taken(&server, depot, expected.len()).await;
        let mut ids: Vec<_> = taken.iter().filter_map(|one| one["id"].as_str()).collect();
        ids.sort_unstable();
        assert_eq!(ids, expected, "{depot}");
    }
    // Event, router and service are one trace.
    let customs = taken(&server, "customs", 1).await;
    let trace = customs[0]["trace"].as_str().context("a trace")?;
    eventually("the trace has router and service", || async {
        let text = server.json(&["traces", trace]).ok()?.to_string();
        ["parcel.arrived", "\"router\"", "\"customs\""]
            .iter()
            .all(|part| text.contains(part))
            .then_some(())
    })
    .await;
    let dead = server.json(&["dead-letters"])?;
    assert_eq!(
        dead["dead_letters"].as_array().map(Vec::len),
        Some(0),
        "{dead}"
    );
    Ok(())
}
