//! HTTP/2 in clear text, with prior knowledge.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::{
    conversation::Conversation,
    house::House,
    upstream::{Upstream, everything, scripted},
};

#[tokio::test]
async fn requests_share_a_connection() {
    let upstream = Upstream::echo().await;
    let house = House::open(&everything(&upstream)).await;
    let stream = TcpStream::connect(house.address())
        .await
        .expect("it listens");
    let (sender, connection) =
        http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("it speaks h2");
    let connection = tokio::spawn(connection);
    let asked = (0..20).map(|n| {
        let mut sender = sender.clone();
        async move {
            let request =
                Request::post(format!("http://shop.test/{n}?q")).body(Full::from(format!("b{n}")));
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
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n",
    ])
    .await;
    let house = House::open(&raw.manifest()).await;
    let stream = TcpStream::connect(house.address())
        .await
        .expect("it listens");
    let (mut sender, connection) =
        http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("it speaks h2");
    let connection = tokio::spawn(connection);
    let request = Request::get("http://shop.test/").body(Empty::new());
    let answer = sender
        .send_request(request.expect("is a request"))
        .await
        .expect("an answer");
    let body = answer.into_body().collect().await.expect("a body");
    let trailers = body.trailers().expect("there are trailers").clone();
    assert_eq!(trailers["x-sum"], "7");
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
