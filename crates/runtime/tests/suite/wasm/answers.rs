//! What a guest gets, and what comes back when nothing goes wrong.

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body as _;
use model::Event;
use runtime::{Body, Input, LogStream};
use serde_json::json;

use super::platform::{Platform, request, request_with, text};
use crate::support::eventually;

#[tokio::test]
async fn a_guest_answers_and_is_measured() {
    let platform = Platform::new();
    let first = platform.get("/hello").await;
    let cold = first.meter.cold().expect("nothing was loaded before");
    assert!(!cold.load.is_zero() && !cold.spawn.is_zero() && cold.wait.is_zero());
    let response = first.response.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, "hello\n");
    assert!(!first.meter.cpu().is_zero());
    let memory = first.meter.memory();
    assert!(memory >= 1 << 16, "{memory}");
    let second = platform.get("/hello").await;
    assert_eq!(second.meter.cold(), None);
    drop(second);
    assert_eq!(platform.pool.stats().starts, 2);
    assert_eq!(platform.engine.stats().taken, 0);
}

#[tokio::test]
async fn a_guest_that_ended_with_its_head_gives_a_whole_body() {
    let platform = Platform::new();
    // On a busy machine its turn may end between the two, once or twice.
    for _ in 0..100 {
        let response = platform.get("/hello").await.response.expect("an answer");
        if response.body().size_hint().exact() == Some(6) {
            return;
        }
    }
    panic!("a short answer always came in pieces");
}

#[tokio::test]
async fn a_request_passes_as_it_came_with_the_headers_of_the_platform() {
    let platform = Platform::new();
    let headers = [
        ("x-own", "kept"),
        ("x-request-id", "theirs"),
        ("x-forwarded-host", "shop.example"),
        ("x-amzn-trace-id", "theirs"),
    ];
    let sent = request_with("PUT", "/request?a=1", Body::full("the body"), &headers);
    let seen = text(
        platform
            .input(Input::http(sent))
            .await
            .response
            .expect("an answer"),
    )
    .await;
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..3], ["Method::Put", "/request?a=1", "shop.example"]);
    assert_eq!(lines.last(), Some(&"the body"));
    assert!(lines.contains(&"x-own: kept"));
    assert!(
        lines.contains(&"traceparent: 00-00000000000000000000000000000abc-0000000000000def-01")
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("x-tangelo-deadline-ms: 59")),
        "{seen}"
    );
    assert!(lines.contains(&"x-request-id: theirs"));
    let unsaid = ["x-forwarded-host", "x-amzn-trace-id"];
    assert!(!unsaid.iter().any(|name| seen.contains(name)), "{seen}");
}

#[tokio::test]
async fn events_and_payloads_are_posts_to_the_root() {
    let platform = Platform::new();
    let event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "order.created", "data": {"n": 1}});
    let event = Arc::new(Event::from_json(event).expect("an event"));
    let seen = text(
        platform
            .input(Input::Event(event))
            .await
            .response
            .expect("an answer"),
    )
    .await;
    assert!(
        seen.starts_with("Method::Post\n/\nbehaviours.internal\n"),
        "{seen}"
    );
    assert!(
        seen.contains("\nce-type: order.created\n") && seen.ends_with("\n{\"n\":1}"),
        "{seen}"
    );
    let payload = Input::Payload(Bytes::from_static(b"[1]"));
    let seen = text(platform.input(payload).await.response.expect("an answer")).await;
    assert!(
        seen.contains("\ncontent-type: application/json\n") && seen.ends_with("\n[1]"),
        "{seen}"
    );
}

#[tokio::test]
async fn the_environment_is_the_manifests_and_the_platforms() {
    let platform = Platform::with(|workload| {
        workload
            .env
            .insert("ORDERS_URL".to_owned(), "http://elsewhere".to_owned());
    });
    let seen = platform.text("/environment").await;
    assert_eq!(seen, "GREETING=hello\nORDERS_URL=http://orders.internal\n");
}

#[tokio::test]
async fn output_becomes_the_lines_of_the_invocation() {
    let platform = Platform::new();
    let invocation = platform.invocation(std::time::Duration::from_secs(60));
    let input = Input::http(request("GET", "/print", Body::Empty));
    let ran = platform.pool.invoke(Arc::clone(&invocation), input).await;
    assert_eq!(text(ran.response.expect("an answer")).await, "printed\n");
    let lines = platform.asked.lines.lock().clone();
    let said: Vec<_> = lines.iter().map(|l| (l.stream, l.text.as_str())).collect();
    let (out, err) = (LogStream::Stdout, LogStream::Stderr);
    assert_eq!(
        said,
        [(out, "one"), (err, "two"), (out, "three, unfinished")]
    );
    assert!(lines.iter().all(|l| l.invocation == Some(invocation.id)));
    assert!(
        lines
            .iter()
            .all(|l| l.trace == Some(invocation.trace.trace))
    );
}

#[tokio::test]
async fn a_flood_of_output_is_cut_and_says_so() {
    let platform = Platform::new();
    assert_eq!(platform.text("/flood?5000").await, "flooded\n");
    let lines = platform.asked.lines.lock().clone();
    let bytes: usize = lines.iter().map(|l| l.text.len()).sum();
    assert!(bytes < 2 << 20, "{bytes}");
    let said = |text: &str| {
        lines
            .iter()
            .any(|l| l.stream == LogStream::Platform && l.text.contains(text))
    };
    assert!(said("output is dropped from here on") && said("bytes of output were dropped"));
}

#[tokio::test]
async fn a_guest_has_no_files_and_no_sockets() {
    let platform = Platform::new();
    assert_eq!(
        platform.text("/inside").await,
        "no file: true, no socket: true\n"
    );
}

#[tokio::test]
async fn a_head_announces_the_length_of_what_it_leaves_out() {
    let platform = Platform::new();
    let head = request("HEAD", "/promise", Body::Empty);
    let response = platform.input(Input::http(head)).await.response;
    let response = response.expect("an answer");
    assert_eq!(response.headers()["content-length"], "5");
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn identities_end_with_the_pool() {
    let platform = Platform::new();
    platform.pool.warm().await;
    let instance = platform.pool.stats().instances[0].instance;
    let asked = Arc::clone(&platform.asked);
    drop(platform);
    // The thread that loaded the code may hold the pool a moment longer.
    eventually("the identity ends", || *asked.left.lock() == [instance]).await;
}
