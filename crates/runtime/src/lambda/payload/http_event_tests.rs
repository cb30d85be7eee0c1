//! The table of what requests become, and what holds for all of them.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Request;
use model::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::request::PathParameters, *};

const FACTS: Facts<'static> = Facts {
    request_id: "r-1",
    api: "shop",
    function: "shop_confirm",
    trace: None,
    route: None,
    now: Time::from_millis(1_583_348_638_390),
};

fn made(request: http::request::Builder, body: &[u8], facts: &Facts<'_>) -> Value {
    let (parts, ()) = request.body(()).expect("a good request").into_parts();
    serde_json::from_slice(&event(&parts, body, facts)).expect("is JSON")
}

#[test]
fn the_example_of_the_documentation() {
    let request = Request::post("/my/path?parameter1=value1&parameter1=value2&parameter2=value")
        .header("Host", "id.execute-api.us-east-1.amazonaws.com:8080")
        .header("Header1", "value1")
        .header("Header2", "value1")
        .header("Header2", "value2")
        .header("Cookie", "cookie1; cookie2=x")
        .header("User-Agent", "agent")
        .header("X-Forwarded-For", "203.0.113.9, 192.0.2.1")
        .header("Content-Type", "text/plain; charset=utf-8");
    let event = made(request, b"Hello from Lambda", &FACTS);
    let expected = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my/path",
        "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=value",
        "cookies": ["cookie1", "cookie2=x"],
        "headers": {
            "content-type": "text/plain; charset=utf-8",
            "header1": "value1",
            "header2": "value1,value2",
            "host": "id.execute-api.us-east-1.amazonaws.com:8080",
            "user-agent": "agent",
            "x-forwarded-for": "203.0.113.9, 192.0.2.1",
        },
        "queryStringParameters": {"parameter1": "value1,value2", "parameter2": "value"},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "shop",
            "domainName": "id.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "id",
            "http": {
                "method": "POST", "path": "/my/path", "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1", "userAgent": "agent",
            },
            "requestId": "r-1",
            "routeKey": "$default",
            "stage": "$default",
            "time": "04/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1_583_348_638_390_u64,
        },
        "body": "Hello from Lambda",
        "isBase64Encoded": false,
    });
    assert_eq!(event, expected);
}

#[test]
fn an_empty_request_has_no_empty_parts() {
    let event = made(Request::get("/"), b"", &FACTS);
    for absent in ["cookies", "queryStringParameters", "pathParameters", "body"] {
        assert_eq!(event.get(absent), None, "{absent}");
    }
    assert_eq!(event["headers"], json!({}));
    assert_eq!(event["rawQueryString"], "");
    assert_eq!(event["requestContext"]["http"]["sourceIp"], "127.0.0.1");
}

#[test]
fn bodies_are_text_only_when_their_type_says_so() {
    for (kind, body, encoded) in [
        (Some("application/json"), "{}", false),
        (Some("application/vnd.api+json; charset=utf-8"), "{}", false),
        (Some("TEXT/HTML"), "x", false),
        (Some("image/svg+xml"), "<svg/>", false),
        (Some("application/x-www-form-urlencoded"), "a=b", true),
        (Some("multipart/form-data; boundary=x"), "--x", true),
        (Some("application/octet-stream"), "x", true),
        (None, "x", true),
    ] {
        let mut request = Request::post("/");
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let event = made(request, body.as_bytes(), &FACTS);
        assert_eq!(event["isBase64Encoded"], encoded, "{kind:?}");
        let expected = if encoded {
            STANDARD.encode(body)
        } else {
            body.to_owned()
        };
        assert_eq!(event["body"], expected, "{kind:?}");
    }
    let gzip = Request::post("/")
        .header("content-type", "text/plain")
        .header("content-encoding", "gzip");
    assert_eq!(made(gzip, b"x", &FACTS)["isBase64Encoded"], true);
    let latin = Request::post("/").header("content-type", "text/plain; charset=latin1");
    assert_eq!(
        made(latin, b"caf\xe9", &FACTS)["body"],
        STANDARD.encode(b"caf\xe9")
    );
}

#[test]
fn routes_give_their_key_and_parameters() {
    for (route, path, key, parameters) in [
        (
            "/orders/{id}",
            "/orders/7%2F8",
            "GET /orders/{id}",
            json!({"id": "7/8"}),
        ),
        (
            "/files/*",
            "/files/a/b%20c",
            "GET /files/{proxy+}",
            json!({"proxy": "a/b c"}),
        ),
        (
            "/a/{x}/b/{y}",
            "/a/1/b/2",
            "GET /a/{x}/b/{y}",
            json!({"x": "1", "y": "2"}),
        ),
        ("/exact", "/exact", "GET /exact", Value::Null),
        (
            "/orders/{id}",
            "/rewritten",
            "GET /orders/{id}",
            Value::Null,
        ),
        ("/orders/{id}", "/orders/", "GET /orders/{id}", Value::Null),
        (
            "/orders/{id}",
            "/orders/1/2",
            "GET /orders/{id}",
            Value::Null,
        ),
        ("/*", "/x", "$default", json!({"proxy": "x"})),
    ] {
        let facts = Facts {
            route: Some(route),
            ..FACTS
        };
        let event = made(Request::get(path), b"", &facts);
        assert_eq!(event["routeKey"], key, "{route}");
        assert_eq!(event["requestContext"]["routeKey"], key, "{route}");
        assert_eq!(event["pathParameters"], parameters, "{route} {path}");
    }
    let given = Request::get("/x").extension(PathParameters(vec![("id".into(), "7".into())]));
    assert_eq!(
        made(given, b"", &FACTS)["pathParameters"],
        json!({"id": "7"})
    );
}

#[test]
fn queries_are_decoded_and_joined() {
    let event = made(Request::get("/?a=1+2&a=%2C&b&=x&&c=%ff"), b"", &FACTS);
    assert_eq!(event["rawQueryString"], "a=1+2&a=%2C&b&=x&&c=%ff");
    let expected = json!({"a": "1 2,,", "b": "", "": "x", "c": "\u{fffd}"});
    assert_eq!(event["queryStringParameters"], expected);
}

proptest! {
    #[test]
    fn any_body_comes_back_from_its_event(body: Vec<u8>, kind in "(text/plain|image/png|application/json)") {
        let event = made(Request::post("/").header("content-type", kind), &body, &FACTS);
        let text = event["body"].as_str().unwrap_or_default();
        let back = if event["isBase64Encoded"] == true {
            STANDARD.decode(text).expect("is base64")
        } else {
            text.as_bytes().to_vec()
        };
        prop_assert_eq!(back, body);
    }

    #[test]
    fn any_header_value_is_carried(value in proptest::collection::vec(32_u8..=255, 0..40)) {
        prop_assume!(!value.contains(&127));
        let request = Request::get("/").header("x-any", value.as_slice());
        let event = made(request, b"", &FACTS);
        prop_assert!(event["headers"]["x-any"].is_string());
    }
}
