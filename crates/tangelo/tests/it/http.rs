//! Requests through the gateway: to both tiers, by every kind of route, and what happens to them on the way.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, StatusCode};

use crate::{ECHO, server};

const MANIFEST: &str = "
app: web
workloads:
  echo:
    as: service
    run: {process: {command: [python3, echo.py]}}
    health: /healthz
gateway:
  routes:
    - {path: /api/*, to: echo, rewrite: /*}
    - {path: /exact, methods: [GET], to: echo}
    - {path: '/items/{id}/parts/{part}', to: echo, rewrite: '/p/{part}/of/{id}'}
    - {path: /small, to: echo, max_body: 10B}
";

#[tokio::test]
async fn a_request_reaches_a_service_with_its_identity_and_trace() -> Result<()> {
    let server = server();
    server.deploy(&[("tangelo.yaml", MANIFEST), ("echo.py", ECHO)])?;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [
        ("traceparent", trace),
        ("x-request-id", "mine-1"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-tangelo-principal", "forged"),
    ];
    let answer = server
        .gateway()
        .send(Method::POST, "/api/a/b?c=d", &headers, Bytes::from("hello"))
        .await?;
    assert_eq!(
        (answer.status, answer.header("x-request-id")),
        (StatusCode::OK, "mine-1")
    );
    let seen = answer.json();
    assert_eq!(
        (&seen["method"], &seen["path"], &seen["body"]),
        (&"POST".into(), &"/a/b?c=d".into(), &"hello".into())
    );
    let seen = &seen["headers"];
    assert!(
        seen["traceparent"]
            .as_str()
            .is_some_and(|t| t.contains("0af7651916cd43dd8448eb211c80319c") && t != trace)
    );
    assert!(
        seen["x-amzn-trace-id"]
            .as_str()
            .is_some_and(|t| t.contains("Root=1-0af76519-16cd43dd8448eb211c80319c"))
    );
    assert!(
        seen["x-hop"].is_null() && seen["x-tangelo-principal"].is_null(),
        "{seen}"
    );
    Ok(())
}

#[tokio::test]
async fn routes_rewrite_refuse_and_say_what_they_allow() -> Result<()> {
    let server = server();
    server.deploy(&[("tangelo.yaml", MANIFEST), ("echo.py", ECHO)])?;
    let gateway = server.gateway();
    assert_eq!(
        gateway.get("/items/7/parts/x").await?.json()["path"],
        "/p/x/of/7"
    );
    let missing = gateway.get("/nothing").await?;
    assert_eq!(
        (missing.status, &missing.json()["code"]),
        (StatusCode::NOT_FOUND, &"TG0201".into())
    );
    assert_eq!(missing.header("content-type"), "application/problem+json");
    let wrong = gateway
        .send(Method::DELETE, "/exact", &[], Bytes::new())
        .await?;
    assert_eq!(
        (wrong.status, &wrong.json()["code"]),
        (StatusCode::METHOD_NOT_ALLOWED, &"TG0202".into())
    );
    assert!(
        wrong.header("allow").contains("GET"),
        "{}",
        wrong.header("allow")
    );
    let large = gateway
        .send(
            Method::POST,
            "/small",
            &[],
            Bytes::from("more than ten bytes"),
        )
        .await?;
    assert_eq!(
        (large.status, &large.json()["code"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &"TG0203".into())
    );
    let head = gateway
        .send(Method::HEAD, "/exact", &[], Bytes::new())
        .await?;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    Ok(())
}
