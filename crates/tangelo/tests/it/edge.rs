//! The edge under pressure, with the shipped binary: memory for bodies that functions need whole.

use anyhow::{Context, Result};
use http::{Method, StatusCode};
use testkit::{Server, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const MANIFEST: &str = "
app: edge
workloads:
  size:
    as: function
    run: {lambda: {runtime: python3, handler: size.handler, code: functions}}
gateway:
  routes: [{path: /size, to: size}]
";

const SIZE: &str = r#"
def handler(event, context):
    return {"size": len(event.get("body") or "")}
"#;

/// A request for `/size` with the head of a body of `length` bytes.
async fn begin(server: &Server, length: usize, more: &str) -> Result<TcpStream> {
    let address = server.addresses().gateway.clone();
    let address = address.strip_prefix("http://").context("it is an URL")?;
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "POST /size HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{more}\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

#[tokio::test]
async fn bodies_for_functions_share_a_budget_that_config_prints() -> Result<()> {
    let server = Server::start_with(env!("CARGO_BIN_EXE_tangelo"), &["--body-buffers", "18MiB"])?;
    server.deploy(&[("tangelo.yaml", MANIFEST), ("functions/size.py", SIZE)])?;
    let shown = server.json(&["config", "--body-buffers", "18MiB"])?;
    let text = shown.to_string();
    assert!(
        text.contains("body_buffers") && text.contains("18MiB"),
        "{text}"
    );

    // What comes of a body is charged with the event that is made of it: 10 MiB of the 18.
    let length = 4 << 20;
    let mut large = begin(&server, length, "").await?;
    large.write_all(&vec![b'x'; length - 1]).await?;
    let refused = eventually("a body without room", || async {
        let mut next = begin(&server, 4 << 20, "Expect: 100-continue\r\n")
            .await
            .ok()?;
        let mut answer = vec![0; 4096];
        let count = next.read(&mut answer).await.ok()?;
        let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
        (!answer.starts_with("HTTP/1.1 100")).then_some(answer)
    })
    .await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let lower = refused.to_ascii_lowercase();
    assert!(
        lower.contains("retry-after: 1\r\n") && refused.contains("TG0306"),
        "{refused}"
    );
    let small = server.gateway();
    let small = small.send(Method::POST, "/size", &[], "abc".into()).await?;
    assert_eq!(small.status, StatusCode::OK, "what is small goes on");

    large.write_all(b"x").await?;
    let mut answer = String::new();
    large.read_to_string(&mut answer).await?;
    assert!(
        answer.ends_with(&format!("{{\"size\": {length}}}")),
        "{answer}"
    );
    let again = vec![b'y'; length];
    let again = server
        .gateway()
        .send(
            Method::POST,
            "/size",
            &[("content-type", "text/plain")],
            again.into(),
        )
        .await?;
    assert_eq!(again.status, StatusCode::OK, "all of it is free again");
    Ok(())
}
