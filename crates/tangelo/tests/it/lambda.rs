//! Functions: Lambda handlers behind routes, by the command line and by AWS's API.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, StatusCode};
use testkit::{SIGNED, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
  guard:
    as: function
    run: {lambda: {runtime: python3, handler: guard.handler, code: functions}}
  later:
    as: function
    run: {lambda: {runtime: python3, handler: greet.handler, code: functions}}
gateway:
  routes:
    - {path: /greet, to: greet}
    - {path: /node, to: node-greet}
    - {path: /later, methods: [POST], to: later, async: true}
    - {path: /guarded, before: [guard], to: greet}
";

const PYTHON: &str = r#"
def handler(event, context):
    if event.get("fail"):
        raise RuntimeError("as asked")
    print("greeting")
    return {"hello": event.get("name") or (event.get("queryStringParameters") or {}).get("name"), "id": context.aws_request_id}
"#;

const NODE: &str = "exports.handler = async (event) => ({statusCode: 201, headers: {'x-from': 'node'}, body: event.rawPath});";

const GUARD: &str = r#"
import json
def handler(event, context):
    return json.loads(event["headers"]["x-says"])
"#;

fn files() -> [(&'static str, &'static str); 4] {
    [
        ("tangelo.yaml", MANIFEST),
        ("functions/greet.py", PYTHON),
        ("functions/greet.js", NODE),
        ("functions/guard.py", GUARD),
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

/// One handler behind each of AWS's front doors: what it gets, and what is made of what it returns.
#[tokio::test]
async fn handlers_are_spoken_to_as_their_front_door_speaks() -> Result<()> {
    let server = server();
    let lambda =
        "{lambda: {runtime: python3, handler: echo.handler, code: code, payload: PAYLOAD}}";
    let workload = |name: &str| {
        let run = lambda.replace("PAYLOAD", name);
        format!("  {name}: {{as: function, run: {run}}}\n")
    };
    let manifest = format!(
        "app: doors\nworkloads:\n{}{}{}gateway:\n  routes:\n{}",
        workload("rest"),
        workload("alb"),
        workload("alb-multi-value"),
        "    - {path: '/rest/{id}', to: rest}\n    - {path: /alb/*, to: alb}\n    - {path: /multi/*, to: alb-multi-value}\n",
    );
    let handler = r#"
import json
def handler(event, context):
    single, lists = {"X-A": "1"}, {"X-A": ["2", "3"], "Set-Cookie": ["a=1", "b=2"]}
    return {"statusCode": 404, "statusDescription": "404 Gone Fishing", "isBase64Encoded": False,
            "headers": single, "multiValueHeaders": lists, "body": json.dumps(event)}
"#;
    server.deploy(&[("tangelo.yaml", &manifest), ("code/echo.py", handler)])?;
    let gateway = server.gateway();
    let get = async |path: &str| {
        let head = [("x-b", "1"), ("x-b", "2"), ("content-type", "text/plain")];
        let answer = gateway
            .send(Method::POST, path, &head, Bytes::from("text"))
            .await?;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.text());
        let all = |name: &str| -> Vec<String> {
            let values = answer.headers.get_all(name).iter();
            values
                .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
                .collect()
        };
        anyhow::Ok((
            answer.json(),
            all("x-a").join(","),
            all("set-cookie").join(","),
        ))
    };
    let (event, a, cookies) = get("/rest/7?q=1&q=%32").await?;
    assert_eq!((a.as_str(), cookies.as_str()), ("1,2,3", "a=1,b=2"));
    assert_eq!(event["resource"], "/rest/{id}");
    assert_eq!(event["pathParameters"]["id"], "7");
    assert_eq!(
        event["multiValueHeaders"]["x-b"],
        serde_json::json!(["1", "2"])
    );
    assert_eq!(event["queryStringParameters"]["q"], "2");
    let trace = event["headers"]["X-Amzn-Trace-Id"]
        .as_str()
        .unwrap_or_default();
    assert!(trace.starts_with("Root=1-"), "{event}");
    let (event, a, cookies) = get("/alb/x?q=1&q=%32").await?;
    assert_eq!((a.as_str(), cookies.as_str()), ("1", ""));
    assert_eq!(
        (
            &event["headers"]["x-b"],
            &event["queryStringParameters"]["q"]
        ),
        (&"2".into(), &"%32".into())
    );
    assert_eq!(
        (&event["path"], &event["body"]),
        (&"/alb/x".into(), &"text".into())
    );
    let (event, a, cookies) = get("/multi/x?q=1&q=%32").await?;
    assert_eq!((a.as_str(), cookies.as_str()), ("2,3", "a=1,b=2"));
    assert_eq!(
        event["multiValueQueryStringParameters"]["q"],
        serde_json::json!(["1", "%32"])
    );

    let address = server
        .addresses()
        .gateway
        .trim_start_matches("http://")
        .to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await?;
    let request = format!("GET /alb/ HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut seen = String::new();
    stream.read_to_string(&mut seen).await?;
    assert!(seen.starts_with("HTTP/1.1 404 Gone Fishing\r\n"), "{seen}");
    Ok(())
}

/// The client has the first piece while the handler still makes the second; a failure after it cuts the answer off.
#[tokio::test]
async fn a_streamed_reply_goes_through_the_gateway_as_it_is_made() -> Result<()> {
    let server = server();
    let go = server.scratch().join("go");
    let manifest = format!(
        "
app: stream
workloads:
  made:
    as: function
    run: {{lambda: {{runtime: nodejs, handler: made.handler, code: code}}}}
    env: {{GO: {go:?}}}
gateway:
  routes:
    - {{path: /*, to: made}}
"
    );
    let handler = "
const { existsSync } = require('node:fs');
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'content-type': 'text/x-made' } });
  stream.write('first');
  while (!existsSync(process.env.GO)) await new Promise((yes) => setTimeout(yes, 5));
  if (event.rawPath === '/breaks') throw new Error('as asked');
  stream.end('second');
});";
    server.deploy(&[("tangelo.yaml", &manifest), ("code/made.js", handler)])?;
    let gateway = server.addresses().gateway.as_str();
    let address = gateway.trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut seen = Vec::new();
    while !seen.windows(5).any(|at| at == b"first") {
        assert_ne!(
            stream.read_buf(&mut seen).await?,
            0,
            "{}",
            seen.escape_ascii()
        );
    }
    let head = String::from_utf8_lossy(&seen).to_lowercase();
    assert!(
        head.starts_with("http/1.1 201 ") && head.contains("content-type: text/x-made"),
        "{head}"
    );
    assert!(!head.contains("second"));
    std::fs::write(&go, "")?;
    stream.read_to_end(&mut seen).await?;
    assert!(
        seen.ends_with(b"second\r\n0\r\n\r\n"),
        "{}",
        seen.escape_ascii()
    );

    let broken = server.gateway().get("/breaks").await;
    assert!(
        broken.is_err(),
        "a body that ends as if it were whole: {broken:?}"
    );
    let failed = eventually("its span", || async {
        let tree = server.json(&["traces", "last"]).ok()?;
        tree.to_string().contains("as asked").then_some(())
    });
    failed.await;
    Ok(())
}

/// What a handler returns is made an answer of 200; whoever guards a route must say so itself.
#[tokio::test]
async fn a_guard_that_says_nothing_lets_nobody_pass() -> Result<()> {
    let server = server();
    server.deploy(&files())?;
    let gateway = server.gateway();
    let ask = async |says: &str| {
        let head = [("x-says", says)];
        let path = "/guarded?name=Ada";
        gateway.send(Method::GET, path, &head, Bytes::new()).await
    };
    for nothing in ["null", "false", "\"denied\"", "{\"isAuthorized\": false}"] {
        let answer = ask(nothing).await?;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{nothing}");
        assert!(answer.text().contains("must return a `statusCode`"));
    }
    assert_eq!(
        ask("{\"statusCode\": 403}").await?.status,
        StatusCode::FORBIDDEN
    );
    let passed = ask("{\"statusCode\": 200}").await?;
    assert_eq!(passed.json()["hello"], "Ada");
    Ok(())
}

#[tokio::test]
async fn awss_api_invokes_and_names_what_it_does_not_have() -> Result<()> {
    let server = server();
    server.deploy(&files())?;
    let aws = server.aws();
    let path = "/2015-03-31/functions/greet/invocations";
    let answer = aws
        .send(
            Method::POST,
            path,
            &SIGNED,
            Bytes::from(r#"{"name": "Bo"}"#),
        )
        .await?;
    assert_eq!(
        (answer.status, &answer.json()["hello"]),
        (StatusCode::OK, &"Bo".into())
    );
    let failed = aws
        .send(
            Method::POST,
            path,
            &SIGNED,
            Bytes::from(r#"{"fail": true}"#),
        )
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
            &[("x-amz-invocation-type", "DryRun"), SIGNED[0], SIGNED[1]],
            Bytes::new(),
        )
        .await?;
    assert_eq!(dry.status, StatusCode::NO_CONTENT);
    let event = aws
        .send(
            Method::POST,
            path,
            &[("x-amz-invocation-type", "Event"), SIGNED[0], SIGNED[1]],
            Bytes::new(),
        )
        .await?;
    assert_eq!(event.status, StatusCode::ACCEPTED, "{}", event.text());
    let unsigned = aws.get("/2015-03-31/functions/").await?;
    assert_eq!(
        (unsigned.status, unsigned.header("x-amzn-errortype")),
        (StatusCode::FORBIDDEN, "MissingAuthenticationTokenException")
    );
    let list = aws
        .send(Method::GET, "/2015-03-31/functions/", &SIGNED, Bytes::new())
        .await?
        .json();
    assert_eq!(
        list["Functions"].as_array().map(Vec::len),
        Some(4),
        "{list}"
    );
    let other = aws
        .send(
            Method::POST,
            "/",
            &[
                ("x-amz-target", "DynamoDB_20120810.PutItem"),
                SIGNED[0],
                SIGNED[1],
            ],
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
