//! The listing of the second document about one trace through both kinds, with AWS's X-Ray SDK in it: what it sends
//! along and what the platform does by itself must not get into each other's way.

use std::collections::BTreeSet;

use anyhow::Result;
use http::StatusCode;
use serde_json::{Value, json};
use testkit::{Server, eventually};

use super::{document, javascript, listing::TRACING, node_modules};
use crate::server;

/// `MODULES` is the folder of the packages.
const MANIFEST: &str = "
app: traced
workloads:
  entry:
    as: function
    run: {lambda: {runtime: nodejs, handler: entry.handler, code: code}}
    calls: [container-service]
    env: {NODE_PATH: MODULES}
  container-service:
    as: service
    run: {process: {command: [node, code/service.js], files: [code]}}
    calls: [back]
    env: {NODE_PATH: MODULES}
  back:
    as: function
    run: {lambda: {runtime: nodejs, handler: back.handler, code: code/back.js}}
gateway:
  routes:
    - {path: /entry, to: entry}
    - {path: /direct, to: container-service, rewrite: /}
";

/// The names that the listing takes from elsewhere.
const STUBS: &str = "
const xray = require('aws-xray-sdk-express');
globalThis.app = require('express')();
globalThis.uuid = () => require('node:crypto').randomUUID();
app.use(xray.openSegment('container-service'));
";

const ENTRY: &str = "
require('./stubs.js');
const { lambdaHandler } = require('./listing.js');
exports.handler = (event) => {
  console.log('correlation', event.requestContext.requestId);
  return lambdaHandler(event);
};
";

/// Behind the middleware of the listing: a call that should go on in the same trace, captured as the listing's last
/// line has it.
const SERVICE: &str = "
require('./stubs.js');
require('./listing.js');
const http = require('aws-xray-sdk-core').captureHTTPs(require('node:http'));
app.get('/', (request, response) => {
  console.log('correlation', request.correlationId);
  http.get(process.env.BACK_URL, (answer) => {
    answer.resume();
    response.json({ correlation: request.correlationId, back: answer.statusCode });
  });
});
app.use(require('aws-xray-sdk-express').closeSegment());
app.listen(process.env.PORT, '127.0.0.1');
";

const BACK: &str = "exports.handler = async () => ({ statusCode: 204 });";

#[tokio::test]
async fn one_trace_and_one_correlation_id_go_through_function_service_and_function() -> Result<()> {
    let Some(text) = document("001_") else {
        return Ok(());
    };
    let server = server();
    server.deploy(&[
        (
            "tangelo.yaml",
            &MANIFEST.replace("MODULES", &node_modules().to_string_lossy()),
        ),
        ("code/listing.js", &javascript(&text, &TRACING)?),
        ("code/stubs.js", STUBS),
        ("code/entry.js", ENTRY),
        ("code/service.js", SERVICE),
        ("code/back.js", BACK),
    ])?;
    let gateway = server.gateway();
    let answer = gateway.get("/entry").await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let id = answer.header("x-request-id");
    assert_eq!(answer.json(), json!({"correlation": id, "back": 204}));
    for workload in ["entry", "container-service"] {
        eventually("the correlation id is in both logs", || async {
            let output = server.cli(&["logs", workload]).ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            text.contains(&format!("correlation {id}")).then_some(())
        })
        .await;
    }
    whole(&server).await;
    let fallback = gateway.get("/direct").await?.json();
    let made = fallback["correlation"].as_str().unwrap_or_default();
    assert!(made.len() == 36 && made != id, "{fallback}");
    Ok(())
}

/// One trace has all three, one root, and no span whose parent is missing.
async fn whole(server: &Server) {
    let spans = eventually("one trace of all three workloads", || async {
        let traces = server.json(&["traces", "--workload", "back"]).ok()?;
        let found = traces["traces"].as_array()?.iter();
        let trace = found
            .filter(|t| t["workloads"].as_array().is_some_and(|w| w.len() == 3))
            .find_map(|t| t["trace"].as_str())?;
        server.json(&["traces", trace]).ok()?["spans"]
            .as_array()
            .cloned()
    })
    .await;
    let ids: BTreeSet<&str> = spans.iter().filter_map(|s| s["id"].as_str()).collect();
    let lost: Vec<&Value> = spans
        .iter()
        .filter(|s| s["parent"].as_str().is_some_and(|p| !ids.contains(p)))
        .collect();
    let roots = spans.iter().filter(|s| s["parent"].is_null()).count();
    assert!(roots == 1 && lost.is_empty(), "{spans:#?}");
}
