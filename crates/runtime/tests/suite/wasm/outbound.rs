//! What a guest may reach, inside and outside.

use model::Egress;
use runtime::{Body, Input, LogStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::platform::{Platform, request, text};

/// A server of one answer, and its port.
async fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut seen = Vec::new();
            while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
                stream.read_buf(&mut seen).await.expect("a request");
            }
            let first = String::from_utf8_lossy(&seen);
            let first = first.lines().next().unwrap_or_default();
            let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{first}");
            stream.write_all(answer.as_bytes()).await.expect("is read");
        }
    });
    port
}

fn allowing(rules: &[(&str, Option<u16>)]) -> Platform {
    let rules: Vec<Egress> = rules
        .iter()
        .map(|(host, port)| Egress {
            host: (*host).to_owned(),
            port: *port,
        })
        .collect();
    Platform::with(|workload| workload.egress = rules)
}

#[tokio::test]
async fn what_is_declared_is_reached() {
    let port = server().await;
    let platform = allowing(&[("127.0.0.1", Some(port)), ("localhost", Some(port))]);
    for host in ["127.0.0.1", "localhost"] {
        let seen = platform
            .text(&format!("/fetch?http://{host}:{port}/a?b=c"))
            .await;
        assert_eq!(seen, "200 GET /a?b=c HTTP/1.1", "{host}");
    }
}

#[tokio::test]
async fn what_is_not_declared_is_refused_with_advice() {
    let port = server().await;
    let platform = allowing(&[("api.example.com", None), ("127.1", Some(port))]);
    let check = async |url: &str, advice: &str| {
        let seen = platform.text(&format!("/fetch?{url}")).await;
        assert_eq!(seen, "ErrorCode::HttpRequestDenied", "{url}");
        let lines = platform.asked.lines.lock().clone();
        let line = lines.last().expect("a line that says so");
        assert_eq!(line.stream, LogStream::Platform);
        assert!(
            line.text.contains("TG0208") && line.text.contains(advice),
            "{}",
            line.text
        );
    };
    check(
        "https://other.example.com/",
        "add `{host: \"other.example.com\"}`",
    )
    .await;
    check(
        "http://api.example.com:8080/",
        "add `{host: \"api.example.com\", port: 8080}`",
    )
    .await;
    check(
        &format!("http://127.0.0.1:{port}/"),
        &format!("add `{{host: \"127.0.0.1\", port: {port}}}`"),
    )
    .await;
    // A declared name that leads inside: the address has to be declared, too.
    check(&format!("http://127.1:{port}/"), "resolves to 127.0.0.1").await;
}

#[tokio::test]
async fn names_inside_are_asked_of_the_platform() {
    let platform = Platform::new();
    let sent = request(
        "POST",
        "/post?http://orders.internal/orders?x=1",
        Body::full("an order"),
    );
    let ran = platform.input(Input::http(sent)).await;
    assert_eq!(
        text(ran.response.expect("an answer")).await,
        "200 inside got an order"
    );
    let calls = platform.asked.calls.lock();
    let (caller, said) = calls.first().expect("one call");
    assert_eq!(said, "POST http://orders.internal/orders?x=1");
    assert_eq!(caller.presence.workload.as_str(), "behaviours");
    let working = caller
        .working
        .as_ref()
        .expect("it is known what it works on");
    assert_eq!(working.0.target.workload.as_str(), "behaviours");
}

#[tokio::test]
async fn a_refused_connection_is_an_error_of_the_guest() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    drop(listener);
    let platform = allowing(&[("127.0.0.1", Some(port))]);
    let seen = platform
        .text(&format!("/fetch?http://127.0.0.1:{port}/"))
        .await;
    assert_eq!(seen, "ErrorCode::ConnectionRefused");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_no_https_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        stream.write_all(answer).await.expect("is read");
        // The other side says that it gives up, and closes.
        while stream.read_buf(&mut Vec::new()).await.is_ok_and(|n| n > 0) {}
    });
    let platform = allowing(&[("localhost", Some(port))]);
    let seen = platform
        .text(&format!("/fetch?https://localhost:{port}/"))
        .await;
    assert_eq!(seen, "ErrorCode::TlsProtocolError");
}
