//! HTTP/2 in clear text, with prior knowledge.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::{
    house::House,
    upstream::{Upstream, everything},
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
