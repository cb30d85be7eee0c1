//! The edge of the shipped binary: memory for bodies that functions need whole, and TLS with certificates from files.

use std::{path::Path, process::Command};

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

/// Writes a certificate for `name` that signs itself, as `NAME.pem` and `NAME.key`.
fn certify(folder: &Path, name: &str) -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])?.self_signed(&key)?;
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem())?;
    Ok(())
}

/// What curl gets from `name`, trusting what is in `trusted` only: the body, the protocol, or why there was none.
fn curl(server: &Server, name: &str, trusted: &Path) -> Result<String> {
    let address = server.addresses().tls.clone().context("it speaks TLS")?;
    let port = address
        .rsplit(':')
        .next()
        .context("it has a port")?
        .to_owned();
    let output = Command::new("curl")
        .args([
            "-sS",
            "--max-time",
            "20",
            "--write-out",
            " HTTP/%{http_version}",
        ])
        .args(["--cacert".as_ref(), trusted.as_os_str()])
        .args(["--resolve", &format!("{name}:{port}:127.0.0.1")])
        .arg(format!("https://{name}:{port}/size"))
        .output()
        .context("curl runs")?;
    Ok(String::from_utf8_lossy(if output.status.success() {
        &output.stdout
    } else {
        &output.stderr
    })
    .into_owned())
}

#[tokio::test]
async fn tls_is_served_from_a_folder_that_is_followed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certs = folder.path().join("certs");
    std::fs::create_dir(&certs)?;
    for name in ["shop.test", "bank.test"] {
        certify(&certs, name)?;
    }
    let shown = certs.to_str().context("a path in UTF-8")?;
    let flags = ["--tls", "127.0.0.1:0", "--tls-folder", shown];
    let server = Server::start_with(env!("CARGO_BIN_EXE_tangelo"), &flags)?;
    server.deploy(&[("tangelo.yaml", MANIFEST), ("functions/size.py", SIZE)])?;
    for name in ["shop.test", "bank.test"] {
        let answer = curl(&server, name, &certs.join(format!("{name}.pem")))?;
        assert_eq!(answer, "{\"size\": 0} HTTP/2", "{name}");
    }
    let crossed = curl(&server, "shop.test", &certs.join("bank.test.pem"))?;
    assert!(crossed.contains("certificate"), "{crossed}");

    // A key of another certificate changes nothing; when its certificate follows, both are used.
    let kept = folder.path().join("old.pem");
    std::fs::copy(certs.join("shop.test.pem"), &kept)?;
    let fresh = folder.path().join("fresh");
    std::fs::create_dir(&fresh)?;
    certify(&fresh, "shop.test")?;
    std::fs::copy(fresh.join("shop.test.key"), certs.join("shop.test.key"))?;
    server.hang_up()?;
    assert_eq!(curl(&server, "shop.test", &kept)?, "{\"size\": 0} HTTP/2");
    std::fs::copy(fresh.join("shop.test.pem"), certs.join("shop.test.pem"))?;
    eventually("the new certificate", || async {
        let answer = curl(&server, "shop.test", &fresh.join("shop.test.pem")).ok()?;
        answer.ends_with("HTTP/2").then_some(())
    })
    .await;
    let old = curl(&server, "shop.test", &kept)?;
    assert!(old.contains("certificate"), "{old}");
    Ok(())
}

#[test]
fn a_key_that_does_not_fit_is_told_at_the_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    certify(folder.path(), "shop.test")?;
    let key = rcgen::KeyPair::generate()?.serialize_pem();
    std::fs::write(folder.path().join("shop.test.key"), key)?;
    let shown = folder.path().to_str().context("a path in UTF-8")?;
    let refused = Server::start_with(env!("CARGO_BIN_EXE_tangelo"), &["--tls-folder", shown]);
    let error = format!("{:#}", refused.err().context("it does not start")?);
    assert!(
        error.contains("TG0903") && error.contains("does not fit"),
        "{error}"
    );
    Ok(())
}
