//! HTTP/2 in clear text, with prior knowledge.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinHandle};

use crate::{
    conversation::Conversation,
    house::House,
    upstream::{Upstream, everything, scripted, text},
};

/// A client that has said hello, and its connection.
async fn client(
    house: &House,
) -> (
    http2::SendRequest<BoxBody<Bytes, Infallible>>,
    JoinHandle<hyper::Result<()>>,
) {
    let stream = TcpStream::connect(house.address())
        .await
        .expect("it listens");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("it speaks h2");
    (sender, tokio::spawn(connection))
}

#[tokio::test]
async fn requests_share_a_connection() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    let (sender, connection) = client(&house).await;
    let asked = (0..20).map(|n| {
        let mut sender = sender.clone();
        async move {
            let body = Full::from(format!("b{n}")).boxed();
            let request = Request::post(format!("http://shop.test/{n}?q")).body(body);
            let response = sender
                .send_request(request.expect("is a request"))
                .await
                .expect("an answer");
            assert_eq!(response.version(), Version::HTTP_2);
            assert!(response.headers().contains_key("x-request-id"));
            let body = response
                .into_body()
                .collect()
                .await
                .expect("a body")
                .to_bytes();
            assert_eq!(body, format!("POST /{n}?q b{n}"));
        }
    });
    futures_util::future::join_all(asked).await;
    assert_eq!(
        upstream.last().header("x-forwarded-host"),
        Some("shop.test")
    );
    house.edge.drain(std::time::Duration::from_secs(20)).await;
    drop(sender);
    connection
        .await
        .expect("no panic")
        .expect("a connection that was asked to end ends well");
}

#[tokio::test]
async fn trailers_of_an_answer_arrive_and_what_frames_is_not_among_them() {
    let raw = scripted(&[
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
          Trailer: x-sum, content-length, transfer-encoding, host, te, connection, x-hop, content_length\r\n\r\n\
          2\r\nok\r\n0\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\nhost: b\r\nte: gzip\r\n\
          connection: x-hop\r\nx-hop: 1\r\ncontent_length: 9\r\nx-sum: 7\r\n\r\n",
    ])
    .await;
    let house = House::open(&raw.manifest()).await;
    let (mut sender, connection) = client(&house).await;
    let request = Request::get("http://shop.test/").body(Empty::new().boxed());
    let answer = sender
        .send_request(request.expect("is a request"))
        .await
        .expect("an answer");
    let body = answer.into_body().collect().await.expect("a body");
    let trailers = body.trailers().expect("there are trailers").clone();
    let sum = (
        &"x-sum".parse().expect("is a name"),
        &"7".parse().expect("is a value"),
    );
    assert_eq!(trailers.iter().collect::<Vec<_>>(), [sum]);
    assert_eq!(body.to_bytes(), "ok");
    connection.abort();

    let mut conversation = Conversation::with(house.address()).await;
    conversation
        .send("GET", "/", &["TE: trailers", "Connection: TE, close"], "")
        .await;
    let all = conversation.rest().await;
    assert!(all.ends_with("2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"), "{all}");
    assert!(raw.heads().iter().all(|head| !head.contains("te: ")));
}

#[tokio::test]
async fn trailers_that_a_request_announces_reach_the_workload() {
    let upstream = Upstream::start(|request| async move {
        let body = request.into_body().collect().await.expect("a body");
        let trailers = body.trailers().cloned().unwrap_or_default();
        text(&format!("{:?} {trailers:?}", body.to_bytes()))
    })
    .await;
    let house = House::open(&everything(&upstream)).await;
    let came = "b\"hi\" {\"x-sum\": \"7\"}";
    let mut conversation = Conversation::with(house.address()).await;
    for _ in 0..2 {
        conversation
            .write("POST / HTTP/1.1\nHost: a\nTrailer: X-Sum\nTransfer-Encoding: chunked\n\n2\nhi\n0\nX-Sum: 7\n\n")
            .await;
        assert_eq!(conversation.answer().await.body, came);
    }

    let (mut sender, connection) = client(&house).await;
    let trailers: HeaderMap = [
        ("x-sum".parse().expect("is a name"), HeaderValue::from(7)),
        (
            "content-length".parse().expect("is a name"),
            HeaderValue::from(9),
        ),
    ]
    .into_iter()
    .collect();
    let frames = [Frame::data("hi".into()), Frame::trailers(trailers)].map(Ok);
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let request = Request::post("http://shop.test/")
        .header("trailer", "x-sum, content-length")
        .body(BodyExt::boxed(body));
    let answer = sender
        .send_request(request.expect("is a request"))
        .await
        .expect("an answer");
    let body = answer.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), came);
    connection.abort();
}

#[tokio::test]
async fn an_upgrade_to_another_protocol_is_no_upgrade() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    for protocol in ["h2c", "TLS/1.0", "websocket, h2c"] {
        let upgrade = format!("Upgrade: {protocol}");
        let headers = [
            "Connection: Upgrade, HTTP2-Settings",
            "HTTP2-Settings: AAMAAABkAAQAAP__",
            &upgrade,
        ];
        let mut conversation = Conversation::with(house.address()).await;
        for _ in 0..2 {
            let reply = conversation.ask("GET", "/", &headers).await;
            assert_eq!(
                (reply.status, reply.body.as_str()),
                (200, "GET / "),
                "{protocol}"
            );
        }
        let seen = upstream.last();
        assert_eq!(
            (seen.header("upgrade"), seen.header("http2-settings")),
            (None, None)
        );
    }
}
