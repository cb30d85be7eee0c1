//! AWS's SDK for Python, unmodified: from outside with any keys, and in a handler with nothing but the environment
//! that it gets.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::{Server, eventually};

use crate::server;

/// `PACKAGES` is the folder of the packages.
const MANIFEST: &str = "
app: aws-sdk
workloads:
  worker:
    as: function
    run: {lambda: {runtime: python3, handler: handlers.worker, code: functions}}
  hidden:
    as: function
    run: {lambda: {runtime: python3, handler: handlers.worker, code: functions}}
  streamer:
    as: function
    run: {lambda: {runtime: python3, handler: handlers.streamer, code: functions}}
  caller:
    as: function
    run: {lambda: {runtime: python3, handler: handlers.caller, code: functions}}
    calls: [worker]
    env: {PYTHONPATH: PACKAGES}
gateway:
  routes:
    - {path: '/orders/{id}', to: worker}
    - {path: /worker/*, to: worker}
    - {host: worker.example.com, path: /*, to: worker}
    - {path: /stream, to: streamer}
    - {path: '/only/{id}', to: caller}
";

const HANDLERS: &str = r#"
import json

def worker(event, context):
    print("working on", event)
    if event.get("fail"):
        raise ValueError("as asked")
    return {"worked": event, "id": context.aws_request_id}

def streamer(event, context):
    if event.get("fail") == "early":
        raise ValueError("too early")
    yield "one "
    print("streaming")
    if event.get("fail"):
        raise ValueError("too late")
    yield b"two"

def caller(event, context):
    import boto3
    from botocore.exceptions import ClientError
    try:
        own = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        client = boto3.client("lambda", **(own if event.get("own") else {}))
        answer = client.invoke(FunctionName=event["name"], Payload=json.dumps({"from": "inside"}))
        return json.load(answer["Payload"])
    except ClientError as error:
        return {"error": error.response["Error"]}
"#;

/// Calls each name of `sys.argv[1]` (a list of service, operation, parameters) and prints what came of it.
const CLIENT: &str = r#"
import base64, json, sys
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

once = Config(retries={"total_max_attempts": 1})
answers = []
for service, operation, parameters in json.load(sys.stdin):
    try:
        answer = getattr(boto3.client(service, config=once), operation)(**parameters)
        if "EventStream" in answer:
            events = answer["EventStream"] = list(answer["EventStream"])
            for event in events:
                if "PayloadChunk" in event:
                    event["PayloadChunk"] = event["PayloadChunk"]["Payload"].decode()
                elif "LogResult" in event["InvokeComplete"]:
                    log = event["InvokeComplete"]["LogResult"]
                    event["InvokeComplete"]["LogResult"] = base64.b64decode(log).decode()
        if "LogResult" in answer:
            answer["LogResult"] = base64.b64decode(answer["LogResult"]).decode()
        if hasattr(answer.get("Payload"), "read"):
            answer["Payload"] = json.loads(answer["Payload"].read() or b"null")
    except ClientError as error:
        answer = error.response
    answers.append(answer)
json.dump(answers, sys.stdout, default=str)
"#;

fn deployed() -> Result<Server> {
    let packages = testkit::tools("tangelo").join("venv/lib");
    let python = std::fs::read_dir(&packages)?.next();
    let python = python.context("a Python in the environment")??;
    let packages = python.path().join("site-packages");
    let server = server();
    let manifest = MANIFEST.replace("PACKAGES", &packages.to_string_lossy());
    server.deploy(&[
        ("tangelo.yaml", &manifest),
        ("functions/handlers.py", HANDLERS),
    ])?;
    Ok(server)
}

/// What boto3 gets for each of these calls.
fn boto3(server: &Server, calls: &Value) -> Result<Vec<Value>> {
    use std::{io::Write, process::Stdio};
    let python: PathBuf = testkit::tools("tangelo").join("venv/bin/python");
    let mut client = Command::new(python)
        .args(["-c", CLIENT])
        .env("AWS_ENDPOINT_URL", &server.addresses().aws)
        .env("AWS_ACCESS_KEY_ID", "any")
        .env("AWS_SECRET_ACCESS_KEY", "thing")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = client.stdin.take().context("stdin is piped")?;
    input.write_all(calls.to_string().as_bytes())?;
    drop(input);
    let output = client.wait_with_output()?;
    ensure!(
        output.status.success(),
        "the client ended with {}",
        output.status
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn invoke(more: Value) -> Value {
    let mut parameters = json!({"FunctionName": "worker", "Payload": "{}"});
    let fields = parameters.as_object_mut().expect("is an object");
    fields.extend(more.as_object().cloned().unwrap_or_default());
    json!(["lambda", "invoke", parameters])
}

#[tokio::test]
async fn boto3_invokes_from_outside_in_every_way() -> Result<()> {
    let server = deployed()?;
    let large = format!("\"{}\"", "x".repeat(6 << 20));
    let calls = json!([
        invoke(json!({"Payload": r#"{"films": 2}"#, "LogType": "Tail"})),
        invoke(json!({"Payload": r#"{"fail": true}"#})),
        invoke(json!({"InvocationType": "Event"})),
        invoke(json!({"InvocationType": "DryRun"})),
        invoke(json!({"Payload": large})),
        invoke(json!({"FunctionName": "nobody"})),
    ]);
    let [good, failed, event, dry, too_large, nobody] = &boto3(&server, &calls)?[..] else {
        panic!("six answers");
    };
    let id = &good["ResponseMetadata"]["RequestId"];
    assert_eq!(
        (
            &good["StatusCode"],
            &good["ExecutedVersion"],
            &good["Payload"]
        ),
        (
            &200.into(),
            &"$LATEST".into(),
            &json!({"worked": {"films": 2}, "id": id})
        )
    );
    let tail = good["LogResult"].as_str().unwrap_or_default();
    assert!(tail.contains("working on {'films': 2}"), "{tail}");
    assert_eq!(
        (
            &failed["StatusCode"],
            &failed["FunctionError"],
            &failed["Payload"]["errorMessage"]
        ),
        (&200.into(), &"Unhandled".into(), &"as asked".into())
    );
    assert_eq!(failed["Payload"]["errorType"], "ValueError");
    assert_eq!(
        (&event["StatusCode"], &dry["StatusCode"]),
        (&202.into(), &204.into())
    );
    assert_eq!(
        too_large["Error"]["Code"], "RequestEntityTooLargeException",
        "{too_large}"
    );
    assert_eq!(
        nobody["Error"]["Code"], "ResourceNotFoundException",
        "{nobody}"
    );
    let id = event["ResponseMetadata"]["RequestId"].as_str();
    let status = format!("/_tangelo/invocations/{}", id.context("a request id")?);
    let done = eventually("the event is done", || async {
        let status = server.gateway().get(&status).await.ok()?.json();
        (status["state"] == "done").then_some(status)
    })
    .await;
    assert_eq!(done["workload"], "aws-sdk/worker", "{done}");
    Ok(())
}

/// What an event stream says: its text, and how it ended.
fn joined(answer: &Value) -> (String, &Value) {
    let events = answer["EventStream"].as_array().expect("a list of events");
    let (last, chunks) = events.split_last().expect("at least how it ended");
    let chunks = chunks.iter().map(|chunk| chunk["PayloadChunk"].as_str());
    let text = chunks.collect::<Option<String>>().expect("chunks of text");
    (text, &last["InvokeComplete"])
}

#[tokio::test]
async fn boto3_reads_replies_while_they_are_made() -> Result<()> {
    let server = deployed()?;
    let stream = |name: &str, payload: &str, more: Value| {
        let mut parameters = json!({"FunctionName": name, "Payload": payload});
        let fields = parameters.as_object_mut().expect("is an object");
        fields.extend(more.as_object().cloned().unwrap_or_default());
        json!(["lambda", "invoke_with_response_stream", parameters])
    };
    let tail = json!({"LogType": "Tail"});
    let calls = json!([
        stream("streamer", "{}", tail.clone()),
        stream("streamer", r#"{"fail": "late"}"#, tail.clone()),
        stream("streamer", r#"{"fail": "early"}"#, Value::Null),
        stream("worker", r#"{"films": 2}"#, tail),
        stream("worker", r#"{"fail": true}"#, Value::Null),
        stream("nobody", "{}", Value::Null),
        stream("worker", "{}", json!({"InvocationType": "DryRun"})),
    ]);
    let [good, late, early, whole, failed, nobody, dry] = &boto3(&server, &calls)?[..] else {
        panic!("seven answers");
    };
    let (text, end) = joined(good);
    assert_eq!(
        (&*text, &good["ExecutedVersion"]),
        ("one two", &"$LATEST".into())
    );
    assert_eq!(end["ErrorCode"], Value::Null, "{good}");
    let log = end["LogResult"].as_str().unwrap_or_default();
    assert!(log.contains("streaming"), "{good}");
    for (answer, sent, kind, message) in [
        (late, "one ", "ValueError", "too late"),
        (early, "", "ValueError", "too early"),
        (failed, "", "ValueError", "as asked"),
    ] {
        let (text, end) = joined(answer);
        assert_eq!(
            (&*text, &end["ErrorCode"]),
            (sent, &"Unhandled".into()),
            "{answer}"
        );
        let details: Value =
            serde_json::from_str(end["ErrorDetails"].as_str().unwrap_or_default())?;
        assert_eq!(
            (&details["errorType"], &details["errorMessage"]),
            (&kind.into(), &message.into())
        );
    }
    let (text, end) = joined(whole);
    let whole: Value = serde_json::from_str(&text)?;
    assert_eq!(whole["worked"], json!({"films": 2}));
    assert!(
        end["LogResult"]
            .as_str()
            .is_some_and(|log| log.contains("working on"))
    );
    assert_eq!(
        nobody["Error"]["Code"], "ResourceNotFoundException",
        "{nobody}"
    );
    assert_eq!(dry["StatusCode"], 204, "{dry}");
    Ok(())
}

#[tokio::test]
async fn boto3_finds_functions_and_is_told_what_is_not_there() -> Result<()> {
    let server = deployed()?;
    let calls = json!([
        ["lambda", "get_function", {"FunctionName": "worker"}],
        ["lambda", "list_functions", {}],
        ["lambda", "delete_function", {"FunctionName": "worker"}],
        ["dynamodb", "list_tables", {}],
        ["sts", "get_caller_identity", {}],
        ["s3", "list_buckets", {}],
    ]);
    let answers = boto3(&server, &calls)?;
    let [function, list, rest @ ..] = &answers[..] else {
        panic!("six answers");
    };
    assert_eq!(
        (
            &function["Configuration"]["FunctionName"],
            &function["Configuration"]["Handler"]
        ),
        (&"aws-sdk_worker".into(), &"handlers.worker".into())
    );
    let names = list["Functions"].as_array().into_iter().flatten();
    let names: Vec<_> = names.map(|function| &function["FunctionName"]).collect();
    assert_eq!(
        names,
        [
            "aws-sdk_caller",
            "aws-sdk_hidden",
            "aws-sdk_streamer",
            "aws-sdk_worker"
        ]
    );
    let named = [
        "DELETE /2015-03-31/functions/worker",
        "ListTables",
        "GetCallerIdentity",
        "GET /",
    ];
    for (answer, name) in rest.iter().zip(named) {
        let error = &answer["Error"];
        assert_eq!(error["Code"], "UnsupportedOperationException", "{answer}");
        assert!(
            error["Message"].as_str().is_some_and(|m| m.contains(name)),
            "{answer}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn boto3_finds_the_route_that_is_a_function_s_url() -> Result<()> {
    let server = deployed()?;
    let name = |name: &str| json!({"FunctionName": name});
    let calls = json!([
        ["lambda", "get_function_url_config", name("worker")],
        ["lambda", "get_function_url_config", name("streamer")],
        ["lambda", "list_function_url_configs", name("worker")],
        ["lambda", "list_function_url_configs", name("hidden")],
        ["lambda", "get_function_url_config", name("hidden")],
        ["lambda", "get_function_url_config", name("caller")],
        ["lambda", "create_function_url_config", {"FunctionName": "hidden", "AuthType": "NONE"}],
    ]);
    let answers = boto3(&server, &calls)?;
    let gateway = server.addresses().gateway.clone();
    let port = gateway.rsplit(':').next().context("a port")?;
    let [worker, streamer, listed, none, hidden, caller, create] = &answers[..] else {
        panic!("seven answers: {answers:?}");
    };
    let url = format!("http://worker.example.com:{port}/");
    assert_eq!(worker["FunctionUrl"], url.as_str(), "{worker}");
    assert_eq!(worker["AuthType"], "NONE");
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:aws-sdk_worker";
    assert_eq!(worker["FunctionArn"], arn);
    assert!(worker["CreationTime"].as_str() <= worker["LastModifiedTime"].as_str());
    assert_eq!(listed["FunctionUrlConfigs"][0]["FunctionUrl"], url.as_str());
    assert_eq!(none["FunctionUrlConfigs"], json!([]));
    assert_eq!(streamer["FunctionUrl"], format!("{gateway}/stream"));
    for missing in [hidden, caller] {
        assert_eq!(
            missing["Error"]["Code"], "ResourceNotFoundException",
            "{missing}"
        );
    }
    assert_eq!(
        create["Error"]["Code"], "UnsupportedOperationException",
        "{create}"
    );
    Ok(())
}

#[tokio::test]
async fn boto3_inside_a_handler_may_invoke_what_is_declared_and_nothing_else() -> Result<()> {
    let server = deployed()?;
    // Code that brings keys of its own is the same workload.
    for own in [false, true] {
        let ask = |name: &str| {
            let payload = json!({"name": name, "own": own}).to_string();
            server.json(&["invoke", "caller", "-d", &payload])
        };
        let good = ask("worker")?;
        assert_eq!(good["body"]["worked"], json!({"from": "inside"}), "{good}");
        let refused = ask("hidden")?;
        let error = &refused["body"]["error"];
        assert_eq!(error["Code"], "AccessDeniedException", "{refused}");
        let message = error["Message"].as_str().unwrap_or_default();
        assert!(message.contains("hidden"), "{refused}");
    }
    Ok(())
}
