//! AWS's documented events of a load balancer, and that no request loses anything on its way into one.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Request;
use model::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const FACTS: Facts<'static> = Facts {
    request_id: "r-1",
    api: "shop",
    function: "shop_confirm",
    trace: Some("Root=1-5759e988-bd862e3fe1be46a994272793"),
    route: None,
    now: Time::from_millis(1_583_349_317_135),
};

fn made(request: http::request::Builder, body: &[u8], multi: bool) -> Value {
    let (parts, ()) = request.body(()).expect("a good request").into_parts();
    serde_json::from_slice(&event(&parts, body, &FACTS, multi)).expect("is JSON")
}

fn example() -> http::request::Builder {
    Request::get("/?&myKey=val1&myKey=val%202")
        .header("accept", "text/html,application/xhtml+xml")
        .header("content-type", "text/plain")
        .header("cookie", "name1=value1")
        .header("cookie", "name2=value2")
        .header("host", "lambda-846800462-us-east-2.elb.amazonaws.com")
        .header("x-forwarded-for", "72.21.198.66")
        .header("x-forwarded-proto", "https")
}

const ARN: &str = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/shop-confirm/";

#[test]
fn the_example_of_the_documentation() {
    let event = made(example(), b"request_body", false);
    let arn = event["requestContext"]["elb"]["targetGroupArn"].as_str();
    assert!(
        arn.is_some_and(|arn| arn.len() == ARN.len() + 16 && arn.starts_with(ARN)),
        "{arn:?}"
    );
    let expected = json!({
        "requestContext": {"elb": {"targetGroupArn": arn}},
        "httpMethod": "GET",
        "path": "/",
        "queryStringParameters": {"myKey": "val%202"},
        "headers": {
            "accept": "text/html,application/xhtml+xml",
            "content-type": "text/plain",
            "cookie": "name2=value2",
            "host": "lambda-846800462-us-east-2.elb.amazonaws.com",
            "x-amzn-trace-id": "Root=1-5759e988-bd862e3fe1be46a994272793",
            "x-forwarded-for": "72.21.198.66",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "isBase64Encoded": false,
        "body": "request_body",
    });
    assert_eq!(event, expected);
}

#[test]
fn multi_value_headers_replace_single_ones() {
    let event = made(example(), b"", true);
    assert_eq!(
        event["multiValueQueryStringParameters"],
        json!({"myKey": ["val1", "val%202"]})
    );
    assert_eq!(
        event["multiValueHeaders"]["cookie"],
        json!(["name1=value1", "name2=value2"])
    );
    for absent in ["headers", "queryStringParameters"] {
        assert_eq!(event.get(absent), None, "never both");
    }
    let empty = made(Request::get("/x"), b"", false);
    assert_eq!(empty["queryStringParameters"], json!({}));
    assert_eq!(
        (&empty["body"], &empty["isBase64Encoded"]),
        (&json!(""), &json!(false))
    );
}

#[test]
fn only_four_kinds_of_text_stay_text() {
    for (kind, encoded) in [
        ("text/csv; charset=utf-8", false),
        ("application/json", false),
        ("application/javascript", false),
        ("application/xml", false),
        ("application/vnd.api+json", true),
        ("application/x-www-form-urlencoded", true),
    ] {
        let event = made(Request::post("/").header("content-type", kind), b"a", false);
        assert_eq!(event["isBase64Encoded"], encoded, "{kind}");
    }
}

proptest! {
    #[test]
    fn any_body_comes_back_from_its_event(body: Vec<u8>, kind in "(text/plain|image/png|application/json)", multi: bool) {
        let event = made(Request::post("/").header("content-type", kind), &body, multi);
        let text = event["body"].as_str().unwrap_or_default();
        let back = if event["isBase64Encoded"] == true {
            STANDARD.decode(text).expect("is base64")
        } else {
            text.as_bytes().to_vec()
        };
        prop_assert_eq!(back, body);
    }

    /// With lists every value is there in its order, without them the last.
    #[test]
    fn queries_are_handed_on_as_they_are_written(pairs in proptest::collection::vec(("[a-c]", "[A-Za-z0-9%+.]{0,8}"), 0..12)) {
        let query: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let uri = format!("/?{}", query.join("&"));
        let (single, multi) = (made(Request::get(&uri), b"", false), made(Request::get(&uri), b"", true));
        for name in ["a", "b", "c"] {
            let values: Vec<_> = pairs.iter().filter(|(n, _)| n == name).map(|(_, v)| json!(v)).collect();
            let expected = if values.is_empty() { Value::Null } else { json!(values) };
            prop_assert_eq!(&multi["multiValueQueryStringParameters"][name], &expected);
            let last = values.last().cloned().unwrap_or_default();
            prop_assert_eq!(&single["queryStringParameters"][name], &last);
        }
    }
}
