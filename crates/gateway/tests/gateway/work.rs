//! Routes whose answer is a receipt: events and asynchronous work.

use std::time::Duration;

use model::Limits;

use crate::{
    conversation::{Conversation, ask, post},
    house::{House, Wishes},
    upstream::{Upstream, app},
};

#[tokio::test]
async fn asynchronous_work_is_accepted_and_its_state_can_be_asked() {
    let upstream = Upstream::echo().await;
    let house = House::open(&app(
        &upstream,
        "gateway: {routes: [{path: /jobs, to: web, async: true}]}\n",
    ))
    .await;
    let accepted = post(
        house.address(),
        "/jobs?n=1",
        &["Content-Type: text/plain"],
        "work",
    )
    .await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let status = accepted
        .header("location")
        .expect("a status URL")
        .to_owned();
    let result = loop {
        let reply = ask(house.address(), "GET", &status, &[]).await;
        assert_eq!(reply.status, 200);
        if reply.body.contains("\"state\":\"done\"") {
            break reply;
        }
        tokio::task::yield_now().await;
    };
    assert!(
        result.body.contains("POST /jobs?n=1 work"),
        "{}",
        result.body
    );
    assert_eq!(ask(house.address(), "POST", &status, &[]).await.status, 405);
    let unknown = "/_tangelo/invocations/00000000-0000-7000-8000-000000000000";
    assert_eq!(
        ask(house.address(), "GET", unknown, &[]).await.code(),
        "TG0505"
    );
    assert_eq!(
        ask(house.address(), "GET", "/_tangelo/invocations/x", &[])
            .await
            .code(),
        "TG0505"
    );
}

#[tokio::test]
async fn events_are_published_through_a_route() {
    let upstream = Upstream::echo().await;
    let house = House::open(&app(
        &upstream,
        "gateway: {routes: [{path: /in, methods: [POST], to: events}]}\n",
    ))
    .await;
    let event = r#"{"specversion":"1.0","id":"1","source":"/test","type":"order.created","data":{"total":7}}"#;
    let accepted = post(
        house.address(),
        "/in",
        &["Content-Type: application/cloudevents+json"],
        event,
    )
    .await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    assert!(
        accepted.body.contains("\"accepted\":1"),
        "{}",
        accepted.body
    );
    let refused = post(
        house.address(),
        "/in",
        &["Content-Type: application/cloudevents+json"],
        "{}",
    )
    .await;
    assert_eq!((refused.status, refused.code()), (400, "TG0501"));
}

#[tokio::test]
async fn what_is_stored_must_come_in_time_and_size() {
    let upstream = Upstream::echo().await;
    let routes = "gateway: {routes: [{path: /in, to: events}, {path: /job, to: web, async: true, max_body: 10B}]}\n";
    let limits = Limits {
        body_idle: Duration::from_millis(300),
        ..Limits::default()
    };
    let wishes = Wishes {
        limits,
        ..Wishes::default()
    };
    let house = House::with(&app(&upstream, routes), wishes).await;
    for path in ["/in", "/job"] {
        let mut trickle = Conversation::with(house.address()).await;
        trickle
            .write(&format!(
                "POST {path} HTTP/1.1\nHost: a\nContent-Length: 9\n\n{{"
            ))
            .await;
        let reply = trickle.answer().await;
        assert_eq!((reply.status, reply.code()), (408, "TG0204"), "{path}");
    }
    let large = post(house.address(), "/job", &[], "more than ten").await;
    assert_eq!(large.code(), "TG0203");
    assert_eq!(upstream.seen().len(), 0);
}
