//! What a guest of WASI 0.3 gets, and what comes back when nothing goes wrong.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::{Egress, Event, code};
use runtime::{Body, Input, LogStream};
use serde_json::json;

use super::{alone, reused, shared};
use crate::{
    support::eventually,
    wasm::platform::{Platform, request, request_with, text},
};

#[tokio::test]
async fn a_guest_answers_and_is_measured() {
    let platform = alone();
    let first = platform.get("/hello").await;
    let cold = first.meter.cold().expect("nothing was loaded before");
    assert!(!cold.load.is_zero() && !cold.spawn.is_zero());
    assert_eq!(text(first.response.expect("an answer")).await, "hello\n");
    assert!(!first.meter.cpu().is_zero());
    let memory = first.meter.memory();
    assert!(memory >= 1 << 16, "{memory}");
    let second = platform.get("/status?404").await;
    assert_eq!(second.meter.cold(), None);
    assert_eq!(second.response.expect("an answer").status(), 404);
    assert_eq!(platform.pool.stats().starts, 2);
    eventually("all have ended", || platform.engine.stats().taken == 0).await;
    assert_eq!(platform.pool.stats().failures, 0);
    assert_eq!(platform.engine.stats().guest_memory, 0);
}

#[tokio::test]
async fn it_runs_only_where_the_server_is_told_to() {
    let bytes = testkit::component("preview3");
    let folder = tempfile::TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("x.wasm"), bytes).expect("is written");
    let platform = Platform::of(folder.path(), "x.wasm", folder.path(), |_| {});
    let error = platform.failure("/hello").await;
    assert_eq!(error.code, code::PREVIEW_OFF);
    assert!(error.message.contains("wasi_preview3 = true"), "{error}");
    assert_eq!(platform.failure("/hello").await, error, "and stays so");
    assert!(platform.pool.ready().await.is_err());
}

#[tokio::test]
async fn components_of_both_kinds_run_beside_each_other() {
    let two = Platform::preview3("behaviours", |_| {});
    assert_eq!(two.text("/hello").await, "hello\n");
    let refused = Platform::preview3("behaviours", |workload| {
        reused(workload, 10, 2, Duration::from_secs(1));
    });
    let error = refused.failure("/hello").await;
    assert_eq!(error.code, code::NOT_CONCURRENT);
    assert!(error.message.contains("concurrent"), "{error}");
}

#[tokio::test]
async fn a_request_passes_as_it_came_with_the_headers_of_the_platform() {
    let platform = alone();
    let headers = [
        ("x-own", "kept"),
        ("x-request-id", "theirs"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "proxy.example"),
    ];
    let sent = request_with("PUT", "/request?a=1", Body::full("the body"), &headers);
    let ran = platform.input(Input::http(sent)).await;
    let seen = text(ran.response.expect("an answer")).await;
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "Method::Put",
            "Some(Scheme::Https)",
            "/request?a=1",
            "shop.example"
        ]
    );
    assert_eq!(lines.last(), Some(&"the body"));
    assert!(lines.contains(&"x-own: kept") && lines.contains(&"x-request-id: theirs"));
    assert!(lines.contains(&"x-forwarded-host: proxy.example"), "{seen}");
    assert!(
        lines.contains(&"traceparent: 00-00000000000000000000000000000abc-0000000000000def-01")
    );
    let deadline = |line: &&str| line.starts_with("x-tangelo-deadline-ms: 5");
    assert!(lines.iter().any(deadline), "{seen}");
}

#[tokio::test]
async fn events_are_delivered_to_it() {
    let platform = alone();
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/orders", "type": "order.created", "data": {"total": 12.5}
    });
    let event = Event::from_json(event).expect("is an event");
    let ran = platform.input(Input::Event(Arc::new(event))).await;
    let seen = text(ran.response.expect("an answer")).await;
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], "Method::Post");
    assert_eq!(lines[2..4], ["/", "behaviours.internal"]);
    assert!(lines.contains(&"ce-type: order.created"));
    assert_eq!(lines.last(), Some(&r#"{"total":12.5}"#));
}

#[tokio::test]
async fn environment_and_configuration_are_those_of_the_manifest() {
    let platform = Platform::preview3("preview3", |workload| {
        workload.env = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]);
    });
    let seen = platform.text("/environment").await;
    assert!(seen.contains("GREETING=hello\n"), "{seen}");
    assert!(seen.contains("ORDERS_URL=http://orders.internal\n"));
    assert_eq!(
        platform.text("/config?GREETING").await,
        r#"Ok(Some("hello"))"#
    );
    assert_eq!(platform.text("/config?ORDERS_URL").await, "Ok(None)");
}

#[tokio::test]
async fn what_it_sends_goes_through_the_mesh_as_its_invocation() {
    let platform = alone();
    let seen = platform.text("/fetch?http://orders.internal/a?b=c").await;
    assert_eq!(seen, "200 inside got ");
    let sent = Input::http(request(
        "POST",
        "/post?http://orders.internal/new",
        Body::full("an order"),
    ));
    let ran = platform.input(sent).await;
    let seen = text(ran.response.expect("an answer")).await;
    assert_eq!(seen, "200 inside got an order");
    let calls = platform.asked.calls.lock();
    let said: Vec<&str> = calls.iter().map(|(_, said)| said.as_str()).collect();
    assert_eq!(
        said,
        [
            "GET http://orders.internal/a?b=c",
            "POST http://orders.internal/new"
        ]
    );
    let working = calls[0].0.working.as_ref().expect("an invocation");
    assert_eq!(working.0.trace.trace, model::TraceId(0xabc));
    assert_eq!(working.0.depth, 1);
}

#[tokio::test]
async fn what_it_may_not_reach_is_refused_with_advice() {
    let platform = Platform::preview3("preview3", |workload| {
        workload.egress = vec![Egress {
            host: "api.example.com".to_owned(),
            port: None,
        }];
    });
    let seen = platform.text("/fetch?https://other.example.com/").await;
    assert_eq!(seen, "ErrorCode::HttpRequestDenied");
    let lines = platform.asked.lines.lock();
    let line = lines.last().expect("a line that says so");
    assert_eq!(line.stream, LogStream::Platform);
    assert!(line.text.contains("add `{host: \"other.example.com\"}`"));
    assert!(line.invocation.is_some());
}

#[tokio::test]
async fn instances_serve_so_many_requests_one_after_another() {
    let platform = shared(3, 1);
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(platform.text("/again").await);
    }
    assert_eq!(seen, ["1", "2", "3", "1", "2", "3", "1"]);
    assert_eq!(platform.pool.stats().starts, 3);
    platform.pool.drain(Duration::ZERO).await;
    eventually("a drain ends those that wait", || {
        platform.engine.stats().taken == 0
    })
    .await;
}

#[tokio::test]
async fn idle_ones_end() {
    let platform = Platform::preview3("preview3", |workload| {
        reused(workload, 100, 1, Duration::from_millis(50));
    });
    assert_eq!(platform.text("/again").await, "1");
    eventually("it was idle for too long", || {
        platform.engine.stats().taken == 0
    })
    .await;
    assert_eq!(platform.text("/again").await, "1");
}
