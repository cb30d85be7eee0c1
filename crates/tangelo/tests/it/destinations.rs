//! Asynchronous invocations to their end: how often they are tried, and what their destinations get.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{SIGNED, Server, eventually};

use crate::server;

const MANIFEST: &str = "
app: later
workloads:
  work:
    as: function
    run: {lambda: {runtime: python3, handler: app.work, code: code}}
    async: {retries: 1, backoff: 1s, on_success: done, on_failure: dead}
  once:
    as: function
    run: {lambda: {runtime: python3, handler: app.work, code: code}}
    async: {retries: 0, on_success: events, on_failure: events}
  done:
    as: function
    run: {lambda: {runtime: python3, handler: app.keep, code: code}}
    env: {INTO: 'FOLDER/done'}
  dead:
    as: function
    run: {lambda: {runtime: python3, handler: app.keep, code: code}}
    env: {INTO: 'FOLDER/dead'}
  heard:
    as: function
    run: {lambda: {runtime: python3, handler: app.keep, code: code}}
    env: {INTO: 'FOLDER/heard'}
    on: [{event: {type: [{prefix: 'Lambda Function Invocation Result'}]}}]
";

const HANDLERS: &str = r#"
import json, os
def work(event, context):
    if event.get("fail"):
        raise LookupError("as asked")
    return {"worked": event}

def keep(event, context):
    with open(os.environ["INTO"], "a") as file:
        file.write(json.dumps(event) + "\n")
"#;

fn deployed() -> Result<Server> {
    let server = server();
    let folder = server.scratch();
    let manifest = MANIFEST.replace("FOLDER", &folder.to_string_lossy());
    server.deploy(&[("tangelo.yaml", &manifest), ("code/app.py", HANDLERS)])?;
    Ok(server)
}

/// Invokes as AWS's SDKs do; the request id.
async fn invoke(server: &Server, function: &str, payload: Value) -> Result<String> {
    let path = format!("/2015-03-31/functions/{function}/invocations");
    let head = [("x-amz-invocation-type", "Event"), SIGNED[0], SIGNED[1]];
    let payload = Bytes::from(payload.to_string());
    let answer = server
        .aws()
        .send(Method::POST, &path, &head, payload)
        .await?;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    Ok(answer.header("x-amzn-requestid").to_owned())
}

/// The records that a destination has kept.
fn kept(server: &Server, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(server.scratch().join(name)).unwrap_or_default();
    // The last line may be on its way.
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

async fn first(server: &Server, name: &str) -> Value {
    eventually(name, || async { kept(server, name).into_iter().next() }).await
}

#[tokio::test]
async fn destinations_get_awss_records() -> Result<()> {
    let server = deployed()?;
    let arn =
        |name: &str| format!("arn:aws:lambda:us-east-1:000000000000:function:later_{name}:$LATEST");
    let id = invoke(&server, "later_work", json!({"n": 1})).await?;
    let record = first(&server, "done").await;
    let expected = json!({
        "version": "1.0",
        "timestamp": record["timestamp"],
        "requestContext": {
            "requestId": id, "functionArn": arn("work"), "condition": "Success", "approximateInvokeCount": 1,
        },
        "requestPayload": {"n": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"worked": {"n": 1}},
    });
    assert_eq!(record, expected);
    assert!(
        record["timestamp"]
            .as_str()
            .is_some_and(|at| at.ends_with('Z')),
        "{record}"
    );

    let id = invoke(&server, "later_work", json!({"fail": true})).await?;
    let record = first(&server, "dead").await;
    let context = json!({
        "requestId": id, "functionArn": arn("work"), "condition": "RetriesExhausted", "approximateInvokeCount": 2,
    });
    assert_eq!(record["requestContext"], context);
    assert_eq!(record["requestPayload"], json!({"fail": true}));
    let failed =
        json!({"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"});
    assert_eq!(record["responseContext"], failed);
    assert_eq!(record["responsePayload"]["errorType"], "LookupError");
    assert_eq!(record["responsePayload"]["errorMessage"], "as asked");

    let id = invoke(&server, "later_once", json!({"fail": true})).await?;
    let event = first(&server, "heard").await;
    assert_eq!(event["source"], "lambda");
    assert_eq!(
        event["detail-type"],
        "Lambda Function Invocation Result - Failure"
    );
    assert_eq!(event["resources"], json!([arn("once")]));
    let context = &event["detail"]["requestContext"];
    assert_eq!(
        (&context["requestId"], &context["approximateInvokeCount"]),
        (&json!(id), &json!(1))
    );
    assert_eq!(kept(&server, "done").len(), 1);

    // Who asks the gateway is told that it failed, and nothing of the handler's code.
    let path = format!("/_tangelo/invocations/{id}");
    let status = server.gateway().get(&path).await?.text();
    assert!(
        status.contains("the handler of `once` raised an error"),
        "{status}"
    );
    assert!(
        !status.contains("as asked") && !status.contains("app.py"),
        "{status}"
    );
    Ok(())
}

/// What was accepted ends at its destination, however often the server dies on the way there.
#[tokio::test]
async fn kills_between_the_end_and_the_destination_lose_nothing() -> Result<()> {
    let mut server = deployed()?;
    let mut accepted = Vec::new();
    for round in 1..=4 {
        for number in 0..25 {
            accepted.push(invoke(&server, "later_work", json!({"n": number})).await?);
        }
        let some = || async { (kept(&server, "done").len() >= round * 10).then_some(()) };
        eventually("some records", some).await;
        server.kill()?;
        server.restart()?;
    }
    let ids = || -> Vec<String> {
        let records = kept(&server, "done").into_iter();
        records
            .filter_map(|record| Some(record["requestContext"]["requestId"].as_str()?.to_owned()))
            .collect()
    };
    let all = || async {
        let ids = ids();
        accepted.iter().all(|id| ids.contains(id)).then_some(())
    };
    eventually("a record of every accepted invocation", all).await;
    assert_eq!(kept(&server, "dead"), Vec::<Value>::new());
    Ok(())
}
