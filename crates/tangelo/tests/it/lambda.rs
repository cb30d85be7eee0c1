//! Functions: Lambda handlers behind routes, by the command line and by AWS's API.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, StatusCode};
use testkit::eventually;

use crate::server;

const MANIFEST: &str = "
app: fn
workloads:
  greet:
    as: function
    run: {lambda: {runtime: python3, handler: greet.handler, code: functions}}
  node-greet:
    as: function
    run: {lambda: {runtime: nodejs, handler: greet.handler, code: functions}}
  later:
    as: function
    run: {lambda: {runtime: python3, handler: greet.handler, code: functions}}
gateway:
  routes:
    - {path: /greet, to: greet}
    - {path: /node, to: node-greet}
    - {path: /later, methods: [POST], to: later, async: true}
";

const PYTHON: &str = r#"
def handler(event, context):
    if event.get("fail"):
        raise RuntimeError("as asked")
    print("greeting")
    return {"hello": event.get("name") or (event.get("queryStringParameters") or {}).get("name"), "id": context.aws_request_id}
"#;

const NODE: &str = "exports.handler = async (event) => ({statusCode: 201, headers: {'x-from': 'node'}, body: event.rawPath});";

fn files() -> [(&'static str, &'static str); 3] {
    [
        ("tangelo.yaml", MANIFEST),
        ("functions/greet.py", PYTHON),
        ("functions/greet.js", NODE),
    ]
}

#[tokio::test]
async fn handlers_answer_behind_routes_and_their_output_is_kept() -> Result<()> {
    let server = server();
    server.deploy(&files())?;
    let answer = server.gateway().get("/greet?name=Ada").await?;
    assert_eq!(
        (answer.status, &answer.json()["hello"]),
        (StatusCode::OK, &"Ada".into())
    );
    let node = server.gateway().get("/node").await?;
    assert_eq!(
        (node.status, node.header("x-from"), node.text().as_str()),
        (StatusCode::CREATED, "node", "/node")
    );
    let line = eventually("the handler's line", || async {
        let output = server.cli(&["--json", "logs", "greet"]).ok()?;
        String::from_utf8(output.stdout)
            .ok()?
            .lines()
            .find(|l| l.contains("greeting"))
            .map(str::to_owned)
    })
    .await;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    assert!(
        line["invocation"].is_string() && line["trace"].is_string(),
        "{line}"
    );
    let usage = server.json(&["usage"])?;
    let greet = usage["usage"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["workload"] == "greet");
    assert!(
        greet.is_some_and(|row| row["requests"] == 1 && row["cold_starts"]["count"] == 1),
        "{usage}"
    );
    Ok(())
}

#[tokio::test]
async fn an_asynchronous_route_answers_at_once_and_keeps_the_result() -> Result<()> {
    let server = server();
    server.deploy(&files())?;
    let accepted = server
        .gateway()
        .send(Method::POST, "/later", &[], Bytes::new())
        .await?;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.text());
    let location = accepted.header("location").to_owned();
    let status = eventually("the work is done", || async {
        let status = server.gateway().get(&location).await.ok()?.json();
        (status["state"] == "done").then_some(status)
    })
    .await;
    assert_eq!(status["result"]["status"], 200, "{status}");
    Ok(())
}

#[tokio::test]
async fn awss_api_invokes_and_names_what_it_does_not_have() -> Result<()> {
    let server = server();
    server.deploy(&files())?;
    let aws = server.aws();
    let path = "/2015-03-31/functions/greet/invocations";
    let answer = aws
        .send(Method::POST, path, &[], Bytes::from(r#"{"name": "Bo"}"#))
        .await?;
    assert_eq!(
        (answer.status, &answer.json()["hello"]),
        (StatusCode::OK, &"Bo".into())
    );
    let failed = aws
        .send(Method::POST, path, &[], Bytes::from(r#"{"fail": true}"#))
        .await?;
    assert_eq!(
        (failed.status, failed.header("x-amz-function-error")),
        (StatusCode::OK, "Unhandled")
    );
    assert_eq!(failed.json()["errorMessage"], "as asked");
    let dry = aws
        .send(
            Method::POST,
            path,
            &[("x-amz-invocation-type", "DryRun")],
            Bytes::new(),
        )
        .await?;
    assert_eq!(dry.status, StatusCode::NO_CONTENT);
    let event = aws
        .send(
            Method::POST,
            path,
            &[("x-amz-invocation-type", "Event")],
            Bytes::new(),
        )
        .await?;
    assert_eq!(event.status, StatusCode::ACCEPTED, "{}", event.text());
    let list = aws.get("/2015-03-31/functions/").await?.json();
    assert_eq!(
        list["Functions"].as_array().map(Vec::len),
        Some(3),
        "{list}"
    );
    let other = aws
        .send(
            Method::POST,
            "/",
            &[("x-amz-target", "DynamoDB_20120810.PutItem")],
            Bytes::from("{}"),
        )
        .await?;
    assert_eq!(
        other.header("x-amzn-errortype"),
        "UnsupportedOperationException"
    );
    assert!(
        other.text().contains("DynamoDB_20120810.PutItem"),
        "{}",
        other.text()
    );
    Ok(())
}
