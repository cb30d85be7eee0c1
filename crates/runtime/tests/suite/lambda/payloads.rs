//! Requests and events through real handlers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use model::{Trigger, code};
use runtime::{Body, Input};
use serde_json::json;

use super::platform::{self, Options};

const ECHO: &str = "
def handler(event, context):
    return {'event': event, 'client': context.client_context and context.client_context.custom}
";

#[tokio::test]
async fn a_body_must_come_in_time_however_slowly_it_comes() {
    let mut options = Options::python(ECHO);
    options.limits.body_idle = Duration::from_millis(300);
    let lambda = options.start();
    let (sender, pieces) = tokio::sync::mpsc::unbounded_channel();
    let pieces = futures_util::stream::unfold(pieces, async |mut pieces| {
        let piece: Bytes = pieces.recv().await?;
        Some((Ok(http_body::Frame::data(piece)), pieces))
    });
    let body = Body::stream(http_body_util::StreamBody::new(pieces));
    let request = Request::post("/").body(body).expect("a request");
    let clock = lambda.clock.clone();
    let drips = tokio::spawn(async move {
        while sender.send(Bytes::from_static(b"x")).is_ok() {
            clock.sleep(Duration::from_millis(20)).await;
        }
    });
    let invocation = Arc::new(lambda.invocation(Duration::from_secs(30)));
    let ran = lambda.pool.invoke(invocation, Input::http(request)).await;
    let error = ran.response.err().expect("nobody waits for it for long");
    assert_eq!(error.code, code::REQUEST_TIMEOUT);
    drips.await.expect("the body was let go");
}

#[tokio::test]
async fn a_request_is_a_payload_2_0_and_its_reply_a_response() {
    let source = "
import base64, json
def handler(event, context):
    path = event['rawPath']
    if path == '/echo':
        body = event.get('body')
        if event['isBase64Encoded']: body = base64.b64decode(body).hex()
        return {'statusCode': 201, 'headers': {'X-Method': event['requestContext']['http']['method'], 'content-type': 'text/x-echo'},
                'cookies': ['a=1; HttpOnly', 'b=2'], 'body': json.dumps([body, event.get('cookies'), event['queryStringParameters'], event['pathParameters']])}
    if path == '/bytes': return {'statusCode': 200, 'headers': {'content-type': 'image/png'}, 'body': base64.b64encode(bytes(range(256))).decode(), 'isBase64Encoded': True}
    if path == '/inferred': return {'hello': 'world'}
    if path == '/text': return 'Hello from Lambda!'
    if path == '/bad': return {'statusCode': 200, 'headers': {'x': 'a\\r\\nb: c'}}
    raise KeyError(path)
";
    let lambda = Options::python(source).start();
    let mut invocation = lambda.invocation(Duration::from_secs(30));
    invocation.trigger = Trigger::Route("/{thing}".into());
    let request = Request::post("/echo?a=1&a=2")
        .header("cookie", "x=1; y=2")
        .header("content-type", "image/png");
    let request = request
        .body(Body::full(&b"\x00\xff"[..]))
        .expect("a request");
    let ran = lambda
        .pool
        .invoke(Arc::new(invocation), Input::http(request))
        .await;
    let response = ran.response.expect("an answer");
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["x-method"], "POST");
    assert_eq!(response.headers()["content-type"], "text/x-echo");
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1; HttpOnly", "b=2"]);
    assert_eq!(
        platform::json(response).await,
        json!(["00ff", ["x=1", "y=2"], {"a": "1,2"}, {"thing": "echo"}])
    );

    let all: Vec<u8> = (0..=255).collect();
    let image = lambda.http(Request::get("/bytes"), "").await;
    assert_eq!(platform::bytes(image).await, all);
    let inferred = lambda.http(Request::get("/inferred"), "").await;
    assert_eq!(inferred.headers()["content-type"], "application/json");
    assert_eq!(platform::json(inferred).await, json!({"hello": "world"}));
    let text = lambda.http(Request::get("/text"), "").await;
    assert_eq!(platform::bytes(text).await, "Hello from Lambda!");

    let error = lambda.http_error(Request::get("/bad")).await;
    assert_eq!(error.code, code::BAD_REPLY);
    assert_eq!(
        error.message,
        "the reply of `hello` is no HTTP reply: the header `x` has a name or value that HTTP does not allow"
    );
    let error = lambda.http_error(Request::get("/secret")).await;
    assert_eq!(
        (error.code, error.message.as_str()),
        (
            code::FUNCTION_ERROR,
            "the handler of `hello` raised an error"
        )
    );
    assert_eq!(
        error.context.as_deref(),
        Some("KeyError: '/secret'"),
        "only the operator reads what the handler said"
    );
}

#[tokio::test]
async fn an_event_is_an_envelope_with_the_key_of_its_work() {
    let lambda = Options::python(ECHO).start();
    let event = json!({
        "specversion": "1.0", "id": "e-1", "source": "/orders", "type": "order.created",
        "time": "2026-01-02T03:04:05Z", "data": {"total": 12.5},
    });
    let event = Arc::new(model::Event::from_json(event).expect("is an event"));
    let mut invocation = lambda.invocation(Duration::from_secs(30));
    invocation.idempotency_key = Some("sub/7 \u{e9}".into());
    let ran = lambda
        .pool
        .invoke(Arc::new(invocation), Input::Event(Arc::clone(&event)))
        .await;
    let expected = json!({
        "event": {
            "version": "0", "id": "e-1", "detail-type": "order.created", "source": "/orders", "account": "000000000000",
            "time": "2026-01-02T03:04:05Z", "region": "us-east-1", "resources": [], "detail": {"total": 12.5},
        },
        "client": {"idempotency-key": "sub/7 \u{e9}"},
    });
    assert_eq!(
        platform::json(ran.response.expect("an answer")).await,
        expected
    );

    let failing = Options::python("def handler(event, context): raise ValueError('no')").start();
    let ran = failing.input(Input::Event(event)).await;
    let error = ran
        .response
        .map(|r| r.status())
        .expect_err("so that the delivery is retried");
    assert_eq!(
        (error.code, error.context.as_deref()),
        (code::FUNCTION_ERROR, Some("ValueError: no"))
    );
}

#[tokio::test]
async fn what_is_too_large_is_refused_both_ways() {
    let source = "
def handler(event, context):
    return len(event) if isinstance(event, str) else 'x' * event
";
    let mut options = Options::python(source);
    options.limits.sync_payload = model::ByteSize::kib(64);
    let lambda = options.start();
    let fits = "x".repeat((64 << 10) - 2);
    assert_eq!(lambda.call(json!(fits)).await, (64 << 10) - 2);
    assert_eq!(lambda.call(json!((64 << 10) - 2)).await, json!(fits));
    let error = lambda.error(json!((64 << 10) - 1)).await;
    let expected = json!({
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (65536 bytes).",
    });
    assert_eq!(error, expected);
    let large = json!("x".repeat((64 << 10) - 1)).to_string();
    let ran = lambda.input(Input::Payload(Bytes::from(large))).await;
    assert_eq!(
        ran.response
            .map(|r| r.status())
            .expect_err("too large")
            .code,
        code::PAYLOAD_TOO_LARGE
    );
    let request = Request::post("/")
        .body(Body::full("x".repeat(65 << 10)))
        .expect("a request");
    let ran = lambda.input(Input::http(request)).await;
    assert_eq!(
        ran.response
            .map(|r| r.status())
            .expect_err("too large")
            .code,
        code::PAYLOAD_TOO_LARGE
    );
    assert_eq!(lambda.call(json!("ok")).await, 2);
    assert_eq!(
        lambda.pool.stats().starts,
        1,
        "the instance outlives all of that"
    );
}

#[tokio::test]
async fn the_log_tail_is_framed_and_at_most_4_kib() {
    let lambda = Options::python(
        "def handler(event, context):\n    for n in range(event): print('line', n)",
    )
    .start();
    for (count, first) in [(2_u32, "START RequestId: "), (2000, "")] {
        let ran = lambda
            .input(Input::Payload(Bytes::from(count.to_string())))
            .await;
        let tail = platform::tail(&ran.response.expect("an answer"));
        assert!(tail.starts_with(first) && tail.len() <= 4096, "{tail}");
        assert!(
            tail.contains(&format!("line {}\nEND RequestId: ", count - 1)),
            "{tail}"
        );
        assert!(
            tail.contains("\tMemory Size: 128 MB\tMax Memory Used: "),
            "{tail}"
        );
    }
}
