//! What passes between the platform and a service: heads, bodies both ways, upgrades, and how long it may take.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use model::{ByteSize, code};
use runtime::{Body, Input};

use crate::stage::{Stage, answer, get, post, scale};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_service_gets_its_environment_and_a_request_its_headers() {
    let stage = Stage::new();
    let state = stage.file("state");
    let pool = stage.service(&[], |spec| {
        spec.state_folder = Some(state.clone());
        spec.workload.env.insert("COLOUR".into(), "orange".into());
        spec.workload.env.insert("PORT".into(), "1".into());
    });
    pool.warm().await.expect("it starts");
    let env = stage.get(&pool, "/env").await.expect("an answer").json();
    for (name, value) in [
        ("COLOUR", "orange"),
        ("K_SERVICE", "orders"),
        ("K_CONFIGURATION", "orders"),
        ("K_REVISION", "orders-070707070707"),
        ("ORDERS_URL", "http://mesh/~t/w/orders"),
        ("HOST", "127.0.0.1"),
        ("TANGELO_STATE_DIR", state.to_str().expect("text")),
    ] {
        assert_eq!(env[name], value, "{name}");
    }
    assert!(env["PORT"].as_str().is_some_and(|port| port != "1"));
    assert_eq!(
        env.get("CARGO_MANIFEST_DIR"),
        None,
        "nothing of the server's own"
    );
    assert!(state.is_dir());

    let request = Request::get("/head?a=b%20c")
        .header("x-mine", "1")
        .header("host", "shop.example");
    let request = request.body(Body::Empty).expect("a request");
    let answer = answer(stage.send(&pool, request).await)
        .await
        .expect("an answer");
    let seen = answer.json();
    assert_eq!(seen["path"], "/head?a=b%20c");
    let headers = &seen["headers"];
    assert_eq!(
        (&headers["host"], &headers["x-mine"]),
        (&"shop.example".into(), &"1".into())
    );
    for name in [
        "traceparent",
        "x-amzn-trace-id",
        "x-request-id",
        "x-tangelo-deadline-ms",
    ] {
        assert!(headers[name].is_string(), "{name}");
    }
    assert!(!answer.headers.contains_key("connection"));
}

#[tokio::test]
async fn events_and_payloads_are_posts() {
    let stage = Stage::new();
    let pool = stage.service(&[], |_| {});
    let invocation = stage.invocation(SECOND * 30);
    let input = Input::Payload(Bytes::from_static(b"{\"a\":1}"));
    let seen = answer(pool.invoke(invocation, input).await)
        .await
        .expect("an answer")
        .json();
    assert_eq!((&seen["path"], &seen["size"]), (&"/".into(), &7.into()));
    assert_eq!(seen["headers"]["content-type"], "application/json");
    let event = serde_json::json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "order.created", "data": {}});
    let event = Arc::new(model::Event::from_json(event).expect("an event"));
    let ran = pool
        .invoke(stage.invocation(SECOND * 30), Input::Event(event))
        .await;
    assert_eq!(
        answer(ran).await.expect("an answer").json()["headers"]["ce-type"],
        "order.created"
    );
}

#[tokio::test]
async fn a_thousand_requests_use_one_connection() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| {
        spec.workload.probes = model::Probes::default();
    });
    for n in 0..1000 {
        let request = if n % 3 == 0 {
            post("/sum", Body::full("x"))
        } else {
            get("/head")
        };
        let answer = answer(stage.send(&pool, request).await)
            .await
            .expect("an answer");
        assert_eq!(answer.status, 200);
    }
    // The one that asked whether the port accepts, and the one that all requests came over.
    assert_eq!(stage.number(&pool, "/connections").await, 2);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_no_request() {
    let stage = Stage::new();
    let pool = stage.service(&[], |_| {});
    for n in 0..50 {
        let closed = stage.get(&pool, "/close-later").await;
        assert_eq!(closed.expect("an answer").status, 200);
        let mut next = Request::new(if n % 2 == 0 {
            Body::Empty
        } else {
            Body::full("abc")
        });
        *next.method_mut() = if n % 2 == 0 { Method::GET } else { Method::PUT };
        let answered = answer(stage.send(&pool, next).await).await;
        assert!(matches!(answered.expect("an answer").status, 404 | 501));
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_at_the_same_time_and_trailers_arrive() {
    let stage = Stage::new();
    let pool = stage.service(&[], |_| {});
    let answer = stage.get(&pool, "/stream?1600").await.expect("an answer");
    assert_eq!(answer.body.len(), 1600 * 65536);

    let ran = stage.send(&pool, get("/stream?3")).await;
    let collected = BodyExt::collect(ran.response.expect("an answer").into_body())
        .await
        .expect("whole");
    let trailers = collected.trailers().cloned().expect("trailers");
    assert_eq!(trailers["x-sum"].len(), 64);

    // The next piece goes out only when the one before has come back.
    let (sender, receiver) = futures_util_channel();
    let body = Body::stream(StreamBody::new(receiver.map(|b: Bytes| Ok(Frame::data(b)))));
    sender.send(Bytes::from_static(b"piece 0")).expect("open");
    let mut echo = stage
        .send(&pool, post("/echo", body))
        .await
        .response
        .expect("a head")
        .into_body();
    for n in 1..200 {
        let frame = echo.frame().await.expect("a frame").expect("whole");
        assert_eq!(frame.into_data().expect("data"), format!("piece {}", n - 1));
        sender
            .send(Bytes::from(format!("piece {n}")))
            .expect("open");
    }
    drop(sender);
    assert_eq!(
        echo.collect(ByteSize(100)).await.expect("whole"),
        "piece 199"
    );
}

fn futures_util_channel() -> (
    tokio::sync::mpsc::UnboundedSender<Bytes>,
    impl futures_util::Stream<Item = Bytes> + Send + 'static,
) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    (
        sender,
        futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx)),
    )
}

#[tokio::test]
async fn large_uploads_arrive_whole() {
    let stage = Stage::new();
    let pool = stage.service(&[], |_| {});
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let pieces = std::iter::repeat_n(piece, 40).map(|piece| Ok(Frame::data(piece)));
    let body = Body::stream(StreamBody::new(futures_util::stream::iter(pieces)));
    let answer = answer(stage.send(&pool, post("/sum", body)).await)
        .await
        .expect("an answer");
    assert_eq!(answer.json()["size"], 40 << 20);
}

#[tokio::test]
async fn an_upload_that_its_sender_breaks_is_the_senders_fault() {
    let stage = Stage::new();
    let pool = stage.service(&[], |_| {});
    let pieces = vec![
        Ok(Frame::data(Bytes::from_static(b"x"))),
        Err(runtime::BodyError::TooLarge(ByteSize(1))),
    ];
    let body = Body::stream(StreamBody::new(futures_util::stream::iter(pieces)));
    let error = stage
        .send(&pool, post("/sum", body))
        .await
        .response
        .err()
        .expect("refused");
    assert_eq!(error.code, code::BODY_TOO_LARGE);
    assert_eq!(
        stage.get(&pool, "/head").await.expect("an answer").status,
        200
    );
}

#[tokio::test]
async fn heads_and_server_sent_events_come_through_as_they_are_made() {
    let stage = Stage::new();
    let pool = stage.service(&[], |_| {});
    let request = Request::head("/x").body(Body::Empty).expect("a request");
    let head = answer(stage.send(&pool, request).await)
        .await
        .expect("an answer");
    assert!(head.body.is_empty() && head.headers["content-length"] == "14");
    let mut ticks = stage
        .send(&pool, get("/ticks?1000"))
        .await
        .response
        .expect("a head")
        .into_body();
    let first = ticks
        .frame()
        .await
        .expect("a frame")
        .expect("data")
        .into_data();
    assert_eq!(first.expect("data"), "data: 0\n\n");
    assert_eq!(pool.stats().instances[0].in_flight, 1);
    drop(ticks);
    assert_eq!(
        pool.stats().instances[0].in_flight,
        0,
        "its place is free at once"
    );
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_and_keeps_its_place() {
    let stage = Stage::new();
    let pool = stage.service(&[], |_| {});
    let mut socket = stage.socket(&pool).await;
    for _ in 0..100 {
        assert_eq!(socket.say("ping").await, "PING");
    }
    assert_eq!(pool.stats().instances[0].in_flight, 1);
    drop(socket);
    assert_eq!(pool.stats().instances[0].in_flight, 0);
}

#[tokio::test]
async fn a_request_beyond_all_places_waits_until_its_deadline() {
    let stage = Stage::new();
    let pool = stage.service(&[], |spec| {
        spec.workload.scale = scale(1, 1, 1, SECOND * 600)
    });
    let busy = stage.send(&pool, get("/ticks?1000")).await;
    let invocation = stage.invocation(Duration::from_millis(200));
    let late = pool.invoke(invocation, Input::http(get("/pid"))).await;
    assert_eq!(
        late.response.err().expect("too late").code,
        code::WORKLOAD_TIMEOUT
    );
    let waiting = stage.get(&pool, "/pid");
    let freed = async { drop(busy) };
    let (answer, ()) = tokio::join!(waiting, freed);
    assert_eq!(answer.expect("an answer").status, 200);
}

#[tokio::test]
async fn an_answer_that_is_late_is_a_timeout() {
    let stage = Stage::new();
    let pool = stage.service(&[], |_| {});
    pool.warm().await.expect("it starts");
    let invocation = stage.invocation(Duration::from_millis(200));
    let late = pool
        .invoke(invocation, Input::http(get("/slow?1000")))
        .await;
    assert_eq!(
        late.response.err().expect("too late").code,
        code::WORKLOAD_TIMEOUT
    );
    assert_eq!(pool.stats().instances[0].in_flight, 0);
}
