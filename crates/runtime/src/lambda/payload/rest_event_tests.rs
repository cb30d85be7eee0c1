//! AWS's documented example of payload 1.0, and that no request loses anything on its way into one.

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

fn made(request: http::request::Builder, body: &[u8], facts: &Facts<'_>) -> Value {
    let (parts, ()) = request.body(()).expect("a good request").into_parts();
    serde_json::from_slice(&event(&parts, body, facts)).expect("is JSON")
}

#[test]
fn the_example_of_the_documentation() {
    let request = Request::post("/hello/world?name=me&multivalueName=you&multivalueName=me")
        .header("Host", "gy415nuibc.execute-api.us-east-1.amazonaws.com")
        .header("Content-Type", "application/json")
        .header("headername", "headerValue")
        .header("User-Agent", "PostmanRuntime/2.4.5")
        .header("Accept", "text/html")
        .header("Accept", "*/*")
        .header("X-Forwarded-For", "54.240.196.186, 192.168.196.186")
        .header("X-Forwarded-Proto", "https");
    let event = made(request, b"{\r\n\t\"a\": 1\r\n}", &FACTS);
    let agent = "PostmanRuntime/2.4.5";
    let host = "gy415nuibc.execute-api.us-east-1.amazonaws.com";
    let trace = "Root=1-5759e988-bd862e3fe1be46a994272793";
    let forwarded = "54.240.196.186, 192.168.196.186";
    let expected = json!({
        "resource": "/{proxy+}",
        "path": "/hello/world",
        "httpMethod": "POST",
        "headers": {
            "Accept": "*/*", "Content-Type": "application/json", "headername": "headerValue", "Host": host,
            "User-Agent": agent, "X-Amzn-Trace-Id": trace, "X-Forwarded-For": forwarded,
            "X-Forwarded-Port": "443", "X-Forwarded-Proto": "https",
        },
        "multiValueHeaders": {
            "Accept": ["text/html", "*/*"], "Content-Type": ["application/json"], "headername": ["headerValue"],
            "Host": [host], "User-Agent": [agent], "X-Amzn-Trace-Id": [trace], "X-Forwarded-For": [forwarded],
            "X-Forwarded-Port": ["443"], "X-Forwarded-Proto": ["https"],
        },
        "queryStringParameters": {"name": "me", "multivalueName": "me"},
        "multiValueQueryStringParameters": {"name": ["me"], "multivalueName": ["you", "me"]},
        "pathParameters": {"proxy": "hello/world"},
        "stageVariables": null,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "shop",
            "domainName": host,
            "domainPrefix": "gy415nuibc",
            "extendedRequestId": "r-1",
            "httpMethod": "POST",
            "identity": {
                "accessKey": null, "accountId": null, "caller": null, "cognitoAuthenticationProvider": null,
                "cognitoAuthenticationType": null, "cognitoIdentityId": null, "cognitoIdentityPoolId": null,
                "principalOrgId": null, "sourceIp": "192.168.196.186", "user": null, "userAgent": agent, "userArn": null,
            },
            "path": "/hello/world",
            "protocol": "HTTP/1.1",
            "requestId": "r-1",
            "requestTime": "04/Mar/2020:19:15:17 +0000",
            "requestTimeEpoch": 1_583_349_317_135_u64,
            "resourceId": event["requestContext"]["resourceId"],
            "resourcePath": "/{proxy+}",
            "stage": "$default",
        },
        "body": "{\r\n\t\"a\": 1\r\n}",
        "isBase64Encoded": false,
    });
    assert_eq!(event, expected);
}

#[test]
fn what_is_empty_is_null() {
    let event = made(
        Request::get("/").header("host", "a:8080"),
        b"",
        &Facts {
            route: Some("/"),
            ..FACTS
        },
    );
    let empty = [
        "queryStringParameters",
        "multiValueQueryStringParameters",
        "pathParameters",
        "stageVariables",
        "body",
    ];
    for null in empty {
        assert_eq!(event.get(null), Some(&Value::Null), "{null}");
    }
    assert_eq!(event["headers"]["X-Forwarded-Port"], "8080");
    assert_eq!(event["resource"], "/");
    assert_eq!(
        event["requestContext"]["identity"]["userAgent"],
        Value::Null
    );
}

#[test]
fn routes_give_their_resource_and_parameters() {
    for (route, path, resource, parameters) in [
        (
            "/orders/{id}",
            "/orders/7%2F8",
            "/orders/{id}",
            json!({"id": "7/8"}),
        ),
        (
            "/files/*",
            "/files/a/b%20c",
            "/files/{proxy+}",
            json!({"proxy": "a/b c"}),
        ),
        ("/exact", "/exact", "/exact", Value::Null),
    ] {
        let event = made(
            Request::get(path),
            b"",
            &Facts {
                route: Some(route),
                ..FACTS
            },
        );
        assert_eq!(event["resource"], resource);
        assert_eq!(event["requestContext"]["resourcePath"], resource);
        assert_eq!(event["path"], path);
        assert_eq!(event["pathParameters"], parameters);
    }
}

#[test]
fn forms_stay_text_and_bytes_become_base64() {
    let form = Request::post("/").header("content-type", "application/x-www-form-urlencoded");
    let event = made(form, b"a=b", &FACTS);
    assert_eq!(
        (&event["body"], &event["isBase64Encoded"]),
        (&json!("a=b"), &json!(false))
    );
    let event = made(Request::post("/"), b"\xff", &FACTS);
    assert_eq!(
        (&event["body"], &event["isBase64Encoded"]),
        (&json!("/w=="), &json!(true))
    );
}

#[test]
fn well_known_names_are_written_as_aws_writes_them() {
    assert!(WELL_KNOWN.is_sorted(), "they are searched");
    for (name, written) in [
        ("content-type", "Content-Type"),
        ("x-api-key", "x-api-key"),
        ("dnt", "DNT"),
        ("x-forwarded-for", "X-Forwarded-For"),
    ] {
        assert_eq!(spelled(name), written);
    }
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

    /// Every value is in its list, in its order, and the last one is the single value.
    #[test]
    fn lists_hold_every_value(pairs in proptest::collection::vec(("[a-c]", "[ -~]{0,8}"), 0..12)) {
        let encoded = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let query: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let mut request = Request::get(format!("/?{}", query.join("&")));
        for (name, value) in &pairs {
            request = request.header(format!("x-{name}"), value.as_bytes());
        }
        let event = made(request, b"", &FACTS);
        for name in ["a", "b", "c"] {
            let values: Vec<_> = pairs.iter().filter(|(n, _)| n == name).map(|(_, v)| json!(v)).collect();
            let expected = if values.is_empty() { Value::Null } else { json!(values) };
            let last = values.last().cloned().unwrap_or_default();
            prop_assert_eq!(&event["multiValueQueryStringParameters"][name], &expected);
            prop_assert_eq!(&event["queryStringParameters"][name], &last);
            prop_assert_eq!(&event["multiValueHeaders"][format!("x-{name}")], &expected);
            prop_assert_eq!(&event["headers"][format!("x-{name}")], &last);
        }
    }
}
