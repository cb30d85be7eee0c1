//! Bodies and connections that last: streams both ways, server-sent events, WebSockets, clients that go away.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use model::{Clock, Limits, Time};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_tungstenite::{accept_async, connect_async, tungstenite::Message};

use crate::{
    conversation::{Conversation, ask, post},
    house::{House, Wishes},
    upstream::{Answer, Upstream, app, everything, text},
};

fn channel_body() -> (mpsc::Sender<Bytes>, Answer) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        let bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), receiver))
    });
    (sender, BodyExt::boxed(StreamBody::new(frames)))
}

#[tokio::test]
async fn events_arrive_while_the_answer_goes_on() {
    let (handle, mut handles) = mpsc::channel(1);
    let upstream = Upstream::start(move |_| {
        let handle = handle.clone();
        async move {
            let (sender, body) = channel_body();
            handle.send(sender).await.expect("the test waits");
            let mut response = Response::new(body);
            response.headers_mut().insert(
                CONTENT_TYPE,
                "text/event-stream".parse().expect("is a value"),
            );
            response
        }
    })
    .await;
    let house = House::open(&everything(&upstream)).await;
    let mut conversation = Conversation::with(house.address()).await;
    conversation
        .send("GET", "/events", &["Accept: text/event-stream"], "")
        .await;
    let events = handles.recv().await.expect("it arrived");
    conversation.head().await;
    for n in 0..3 {
        events
            .send(format!("data: {n}\n\n").into())
            .await
            .expect("it is open");
        assert_eq!(
            conversation.chunk().await,
            format!("data: {n}\n\n").as_bytes()
        );
    }
    drop(conversation);
    events.closed().await;
}

#[tokio::test]
async fn an_event_stream_may_be_silent_for_as_long_as_both_sides_like_and_nothing_else() {
    let (handle, mut handles) = mpsc::channel(1);
    let upstream = Upstream::start(move |request| {
        let handle = handle.clone();
        async move {
            if request.uri().path() == "/other" {
                return text("here");
            }
            let (sender, body) = channel_body();
            handle.send(sender).await.expect("the test waits");
            let mut response = Response::new(body);
            let kind = request.headers()["x-kind"].clone();
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
    })
    .await;
    let clock = Clock::virtual_at(Time::from_millis(1_790_000_000_000));
    let wishes = Wishes {
        clock: clock.clone(),
        ..Wishes::default()
    };
    let house = House::with(&everything(&upstream), wishes).await;
    let mut open = async |kind: &str| {
        let mut conversation = Conversation::with(house.address()).await;
        conversation
            .send("GET", "/stream", &[&format!("x-kind: {kind}")], "")
            .await;
        let stream = handles.recv().await.expect("it arrived");
        conversation.head().await;
        stream.send("one".into()).await.expect("it is open");
        assert_eq!(conversation.chunk().await, b"one");
        (conversation, stream)
    };
    let (mut events, event_stream) = open("text/event-stream; charset=utf-8").await;
    let (mut lines, line_stream) = open("text/plain").await;
    // Each request of another client is time for both answers to be polled.
    for _ in 0..8 {
        clock.advance(Duration::from_secs(3600));
        let other = ask(house.address(), "GET", "/other", &[]).await;
        assert_eq!(other.status, 200);
    }
    assert!(lines.closes().await, "silence in any other body ends it");
    line_stream.closed().await;
    event_stream.send("two".into()).await.expect("it is open");
    assert_eq!(events.chunk().await, b"two");
}

#[tokio::test]
async fn a_large_body_passes_both_ways() {
    let upstream = Upstream::start(|request| async move {
        Response::new(request.into_body().map_err(|_| unreachable!()).boxed())
    })
    .await;
    let house = House::open(&everything(&upstream)).await;
    let body = "0123456789abcdef".repeat(128 << 10);
    assert!(
        post(house.address(), "/", &[], &body).await.body == body,
        "2 MiB come back as they went"
    );
}

#[tokio::test]
async fn a_slow_reader_slows_the_workload_down() {
    let (handle, mut handles) = mpsc::channel(1);
    let upstream = Upstream::start(move |_| {
        let handle = handle.clone();
        async move {
            let (sender, body) = channel_body();
            handle.send(sender).await.expect("the test waits");
            Response::new(body)
        }
    })
    .await;
    let house = House::open(&everything(&upstream)).await;
    let mut conversation = Conversation::with(house.address()).await;
    conversation.send("GET", "/", &[], "").await;
    let sender = handles.recv().await.expect("it arrived");
    let chunk = Bytes::from(vec![b'x'; 1 << 20]);
    let mut sent = 0;
    // Kernel buffers take some MiB; a gateway that buffers would take everything.
    while sent < 256
        && tokio::time::timeout(Duration::from_secs(2), sender.reserve())
            .await
            .is_ok()
    {
        sender.send(chunk.clone()).await.expect("it is open");
        sent += 1;
    }
    assert!(
        sent < 64,
        "{sent} MiB were taken from a workload whose client reads nothing"
    );
    conversation.head().await;
    assert_eq!(conversation.chunk().await.first(), Some(&b'x'));
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed() {
    let (arrived, mut arrivals) = mpsc::channel(1);
    let upstream = Upstream::start(move |_| {
        let arrived = arrived.clone();
        async move {
            let (gone, alive) = tokio::sync::oneshot::channel::<()>();
            arrived.send(alive).await.expect("the test waits");
            std::future::pending::<()>().await;
            drop(gone);
            unreachable!()
        }
    })
    .await;
    let house = House::open(&everything(&upstream)).await;
    let mut conversation = Conversation::with(house.address()).await;
    conversation.send("GET", "/", &[], "").await;
    let alive = arrivals.recv().await.expect("it arrived");
    drop(conversation);
    assert!(
        alive.await.is_err(),
        "the workload's connection was closed with the client's"
    );
    house.until_idle("shop/web").await;
}

/// A WebSocket server that answers each text with itself in capitals.
async fn shouting() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = accept_async(stream).await else {
                    return;
                };
                while let Some(Ok(Message::Text(text))) = socket.next().await {
                    let _ = socket.send(Message::text(text.to_uppercase())).await;
                }
            });
        }
    });
    address
}

async fn websocket_house() -> House {
    websocket_house_with(Wishes::default()).await
}

async fn websocket_house_with(wishes: Wishes) -> House {
    let (plain, shouting) = (Upstream::echo().await, shouting().await);
    let manifest = everything(&plain).replace(&plain.address.to_string(), &shouting.to_string());
    House::with(&manifest, wishes).await
}

#[tokio::test]
async fn a_websocket_counts_as_a_connection_of_its_client_and_as_no_request() {
    let wishes = Wishes {
        connections: |limits| {
            limits.per_client = 2;
            limits.count_local = true;
        },
        limits: Limits {
            requests: 1,
            ..Limits::default()
        },
        ..Wishes::default()
    };
    let house = websocket_house_with(wishes).await;
    let url = format!("ws://{}/", house.address());
    let (mut socket, _) = connect_async(&url).await.expect("it is upgraded");
    let second = connect_async(&url).await;
    assert!(
        second.is_ok(),
        "the first is no request any more: {second:?}"
    );
    let refused = ask(house.address(), "GET", "/", &[]).await;
    assert_eq!((refused.status, refused.code()), (429, "TG0212"));
    socket.close(None).await.expect("it closes");
    while socket.next().await.is_some() {}
    drop(socket);
    while connect_async(&url).await.is_err() {}
}

#[tokio::test]
async fn a_websocket_passes_and_holds_its_place() {
    let house = websocket_house().await;
    let callee = house
        .platform()
        .apps()
        .by_name("shop/web", None)
        .expect("is live");
    let (mut socket, response) = connect_async(format!("ws://{}/chat?room=1", house.address()))
        .await
        .expect("it is upgraded");
    assert!(response.headers().contains_key("x-request-id"));
    for word in ["hello", "again"] {
        socket.send(Message::text(word)).await.expect("it is open");
        let answer = socket.next().await.expect("an answer").expect("no error");
        assert_eq!(answer.into_text().expect("a text"), word.to_uppercase());
    }
    assert_eq!(
        callee.in_flight(),
        1,
        "the connection is an invocation until it closes"
    );
    socket.close(None).await.expect("it closes");
    while socket.next().await.is_some() {}
    drop(socket);
    house.until_idle("shop/web").await;
}

#[tokio::test]
async fn a_websocket_is_cut_when_the_grace_is_over() {
    let house = websocket_house().await;
    let (mut socket, _) = connect_async(format!("ws://{}/", house.address()))
        .await
        .expect("it is upgraded");
    house.edge.drain(Duration::from_millis(100)).await;
    assert!(!matches!(socket.next().await, Some(Ok(Message::Text(_)))));
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let upstream = Upstream::echo().await;
    let house = House::open(&app(
        &upstream,
        "gateway: {routes: [{path: /*, to: web}]}\n",
    ))
    .await;
    let handshake = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let mut conversation = Conversation::with(house.address()).await;
    assert_eq!(
        conversation.ask("GET", "/x", &handshake).await.body,
        "GET /x "
    );
    assert_eq!(upstream.last().header("upgrade"), Some("websocket"));
    assert_eq!(
        conversation
            .ask("GET", "/y", &["Connection: Upgrade", "Upgrade: h2c"])
            .await
            .body,
        "GET /y "
    );
    assert_eq!(
        upstream.last().header("upgrade"),
        None,
        "only WebSockets are passed on"
    );
}
