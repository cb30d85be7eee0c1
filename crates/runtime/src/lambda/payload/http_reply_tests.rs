//! The table of reply formats, and that no reply makes a header that HTTP does not allow.

use model::ByteSize;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const FORMATS: [LambdaPayload; 4] = [
    LambdaPayload::Http,
    LambdaPayload::Rest,
    LambdaPayload::Alb,
    LambdaPayload::AlbMultiValue,
];

/// Status, headers and body.
type Read = (u16, Vec<(String, String)>, Vec<u8>);

fn read(reply: &Value) -> Result<Read, BadReply> {
    read_bytes(reply.to_string())
}

fn read_bytes(reply: String) -> Result<Read, BadReply> {
    read_as(reply, LambdaPayload::Http)
}

fn read_as(reply: String, format: LambdaPayload) -> Result<Read, BadReply> {
    let (parts, body) = response(&Bytes::from(reply), format)?.into_parts();
    let pairs = parts.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.to_string(), value)
    });
    let body = futures_util::FutureExt::now_or_never(body.collect(ByteSize::mib(1)));
    let body = body.expect("is at hand").expect("fits").to_vec();
    Ok((parts.status.as_u16(), pairs.collect(), body))
}

fn check(reply: &Value, status: u16, headers: &[(&str, &str)], body: &str) {
    let (got_status, got_headers, got_body) = read(reply).expect("a good reply");
    let mut got: Vec<_> = got_headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    got.sort_unstable();
    assert_eq!((got_status, got.as_slice()), (status, headers), "{reply}");
    assert_eq!(String::from_utf8_lossy(&got_body), body, "{reply}");
}

#[test]
fn the_full_format() {
    let text = ("content-type", "text/plain; charset=utf-8");
    check(
        &json!({"statusCode": 201, "body": "hi"}),
        201,
        &[text],
        "hi",
    );
    check(&json!({"statusCode": "204"}), 204, &[], "");
    check(
        &json!({"statusCode": 200, "body": null, "headers": null, "cookies": null}),
        200,
        &[],
        "",
    );
    let reply = json!({
        "statusCode": 200,
        "headers": {"Content-Type": "text/html", "X-Count": 3, "X-Ok": true, "X-Ünï": "never"},
        "body": "<p>",
    });
    assert_eq!(read(&reply), Err(BadReply::Header("X-Ünï".to_owned())));
    let reply = json!({
        "statusCode": 200,
        "headers": {"Content-Type": "text/html", "X-Count": 3, "X-Ok": true, "X-Utf8": "ünï", "Via": "old"},
        "multiValueHeaders": {"via": ["a", "b"]},
        "cookies": ["a=1; Path=/", "b=2"],
        "body": "PHA+",
        "isBase64Encoded": true,
    });
    let expected = [
        ("content-type", "text/html"),
        ("set-cookie", "a=1; Path=/"),
        ("set-cookie", "b=2"),
        ("via", "a"),
        ("via", "b"),
        ("x-count", "3"),
        ("x-ok", "true"),
        ("x-utf8", "ünï"),
    ];
    check(&reply, 200, &expected, "<p>");
}

#[test]
fn the_inferred_format() {
    let json = [("content-type", "application/json")];
    check(&json!({"message": "hi"}), 200, &json, r#"{"message":"hi"}"#);
    check(
        &json!("Hello from \"Lambda\"!"),
        200,
        &json,
        "Hello from \"Lambda\"!",
    );
    check(&json!([1, 2]), 200, &json, "[1,2]");
    check(&json!(12.5), 200, &json, "12.5");
    check(&json!(null), 200, &json, "null");
    check(&json!(""), 200, &json, "");
}

/// What AWS documents of REST APIs and of load balancers, with multi-value headers and without.
#[test]
fn the_formats_of_other_front_doors() {
    let [_, rest, alb, multi] = FORMATS;
    let both = json!({
        "statusCode": 201,
        "headers": {"Via": "a", "X-One": "1"},
        "multiValueHeaders": {"via": ["a", "b"], "X-Two": ["2", 3]},
        "body": "{}",
    });
    for (format, headers) in [
        (
            rest,
            "content-type: application/json, via: a, via: b, x-one: 1, x-two: 2, x-two: 3",
        ),
        (
            alb,
            "content-type: application/octet-stream, via: a, x-one: 1",
        ),
        (
            multi,
            "content-type: application/octet-stream, via: a, via: b, x-two: 2, x-two: 3",
        ),
    ] {
        let (status, got, body) = read_as(both.to_string(), format).expect("is good");
        let mut got: Vec<_> = got.into_iter().map(|(n, v)| format!("{n}: {v}")).collect();
        got.sort();
        assert_eq!(
            (status, got.join(", ")),
            (201, headers.to_owned()),
            "{format:?}"
        );
        assert_eq!(body, b"{}");
    }
    let encoded = json!({"statusCode": "200", "body": "AP8=", "isBase64Encoded": true});
    for format in FORMATS {
        let (_, _, body) = read_as(encoded.to_string(), format).expect("is good");
        assert_eq!(body, [0, 255]);
    }
}

#[test]
fn other_front_doors_say_what_they_do_not_read() {
    let [_, rest, alb, multi] = FORMATS;
    let infers = "`statusCode` is missing: only `payload: http` makes a reply of anything else";
    let cookies =
        "`cookies` is read with `payload: http` only: give `Set-Cookie` among the headers";
    let description = "`statusDescription` must be a status and a reason phrase, such as `200 OK`";
    for (format, reply, message) in [
        (rest, json!({"hello": "world"}), infers),
        (alb, json!("text"), infers),
        (
            rest,
            json!({"statusCode": 200, "cookies": ["a=1"]}),
            cookies,
        ),
        (
            multi,
            json!({"statusCode": 200, "cookies": ["a=1"]}),
            cookies,
        ),
        (
            rest,
            json!({"statusCode": 200, "cookies": [], "multiValueHeaders": {}}),
            "",
        ),
        (
            alb,
            json!({"statusCode": 200, "statusDescription": "OK"}),
            description,
        ),
        (
            alb,
            json!({"statusCode": 200, "statusDescription": 200}),
            description,
        ),
        (
            alb,
            json!({"statusCode": 200, "statusDescription": "200 a\r\nb: c"}),
            description,
        ),
        (
            alb,
            json!({"statusCode": 200, "multiValueHeaders": {"a": ["b"]}}),
            "`multiValueHeaders` is not read by this load balancer: use `headers`, or `payload: alb-multi-value`",
        ),
        (
            multi,
            json!({"statusCode": 200, "headers": {"a": "b"}}),
            "`headers` is not read by a load balancer with multi-value headers: use `multiValueHeaders`",
        ),
    ] {
        let got = read_as(reply.to_string(), format).err();
        let got = got.map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(got, message, "{reply}");
    }
    let described = json!({"statusCode": 404, "statusDescription": "404 Gone Fishing"});
    let made = response(&Bytes::from(described.to_string()), alb).expect("is good");
    let reason = made.extensions().get::<ReasonPhrase>().expect("is kept");
    assert_eq!(reason.as_bytes(), b"Gone Fishing");
}

#[test]
fn framing_belongs_to_the_connection() {
    let headers = json!({"Content-Length": "5", "Transfer-Encoding": "chunked", "Connection": "close", "Keep-Alive": "1"});
    check(
        &json!({"statusCode": 200, "headers": headers}),
        200,
        &[],
        "",
    );
}

#[test]
fn malformed_replies_say_what_is_wrong() {
    for (reply, message) in [
        (
            json!({"statusCode": 99}),
            "`statusCode` must be a whole number from 200 to 599",
        ),
        (
            json!({"statusCode": 101}),
            "`statusCode` must be a whole number from 200 to 599",
        ),
        (json!({"statusCode": null, "body": "x"}), ""),
        (
            json!({"statusCode": {}}),
            "`statusCode` must be a whole number from 200 to 599",
        ),
        (
            json!({"statusCode": 200, "body": {"a": 1}}),
            "`body` must be a text; JSON.stringify or json.dumps it",
        ),
        (
            json!({"statusCode": 200, "body": "*", "isBase64Encoded": true}),
            "`body` is not base64, though `isBase64Encoded` says so",
        ),
        (
            json!({"statusCode": 200, "isBase64Encoded": "yes"}),
            "`isBase64Encoded` must be true or false",
        ),
        (
            json!({"statusCode": 200, "cookies": "a=1"}),
            "`cookies` must be a list of texts",
        ),
        (
            json!({"statusCode": 200, "headers": ["a"]}),
            "`headers` must map names to texts, numbers or booleans (to lists of them in `multiValueHeaders`)",
        ),
        (
            json!({"statusCode": 200, "headers": {"a": "b\r\nSet-Cookie: x=1"}}),
            "the header `a` has a name or value that HTTP does not allow",
        ),
        (
            json!({"statusCode": 200, "headers": {"a: b\r\nc": "d"}}),
            "the header `a: bc` has a name or value that HTTP does not allow",
        ),
        (
            json!({"statusCode": 200, "cookies": ["a=1\nb: 2"]}),
            "the header `set-cookie` has a name or value that HTTP does not allow",
        ),
    ] {
        let got = read(&reply)
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert_eq!(got, message, "{reply}");
    }
    assert!(matches!(
        read_bytes("<html>".into()),
        Err(BadReply::NotJson(_))
    ));
    assert!(matches!(
        read_bytes(String::new()),
        Err(BadReply::NotJson(_))
    ));
    assert!(matches!(
        read_bytes("[".repeat(100_000)),
        Err(BadReply::NotJson(_))
    ));
}

#[test]
fn the_metadata_of_a_streamed_reply() {
    let made = prelude(br#"{"statusCode":202,"headers":{"X-A":1},"cookies":["a=1"],"multiValueHeaders":{"x-b":["1","2"]}}"#);
    let made = made.expect("is good");
    let header = |name: &str| -> Vec<_> {
        let all = made.headers().get_all(name).iter();
        all.map(|value| value.to_str().expect("is text")).collect()
    };
    assert_eq!(made.status(), 202);
    assert_eq!((header("x-a"), header("x-b")), (vec!["1"], vec!["1", "2"]));
    assert_eq!(header("set-cookie"), ["a=1"]);
    assert_eq!(header("content-type"), ["application/octet-stream"]);
    assert_eq!(made.extensions().get::<Inferred>(), None);
    let silent = prelude(b"{}").expect("is good");
    assert_eq!(silent.status(), 200);
    assert_eq!(
        silent.extensions().get(),
        Some(&Inferred),
        "a guard must say so itself"
    );
    for bad in [
        "",
        "[]",
        "7",
        r#"{"statusCode":100}"#,
        r#"{"headers":{"a":"b\r\nc"}}"#,
    ] {
        assert!(prelude(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn more_headers_than_a_client_takes_are_an_error() {
    let cookies: Vec<String> = (0..257).map(|i| format!("c={i}")).collect();
    let reply = json!({"statusCode": 200, "cookies": cookies});
    assert_eq!(read(&reply), Err(BadReply::TooManyHeaders));
}

proptest! {
    #[test]
    fn no_header_holds_a_line_end(name in "\\PC{0,12}|[a-z]{1,4}[\r\n:]?", value in "(?s).{0,20}") {
        let reply = json!({"statusCode": 200, "headers": {name: value}});
        for (_, headers, _) in FORMATS.iter().filter_map(|f| read_as(reply.to_string(), *f).ok()) {
            for (name, value) in headers {
                prop_assert!(!name.contains(['\r', '\n', ':']) && !value.contains(['\r', '\n', '\0']));
            }
        }
    }

    #[test]
    fn any_bytes_are_a_reply_or_an_error(bytes: Vec<u8>) {
        let _ = prelude(&bytes);
        for format in FORMATS {
            let _ = response(&Bytes::from(bytes.clone()), format);
        }
    }
}
