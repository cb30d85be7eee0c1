//! Secrets: how they reach workloads, and how they are rotated without a restart.

use anyhow::{Result, bail};
use testkit::{Server, eventually};

use crate::server;

const HANDLER: &str =
    "import os\ndef handler(event, context): return os.environ.get('TOKEN', 'none')";

fn manifest(timeout: u32) -> String {
    format!(
        "
app: vault
workloads:
  tell:
    as: function
    run: {{lambda: {{runtime: python3, handler: tell.handler, code: tell}}}}
    timeout: {timeout}s
    secrets: [TOKEN]
gateway: {{routes: [{{path: /, to: tell}}]}}
"
    )
}

/// What a new instance was told. Every version has instances of its own, which start when it is asked.
async fn told(server: &Server, version: u32) -> Result<String> {
    let manifest = manifest(version);
    server.deploy(&[("tangelo.yaml", &manifest), ("tell/tell.py", HANDLER)])?;
    Ok(server.gateway().get("/").await?.text())
}

/// Starts instances until one was told `expected`.
async fn until_told(server: &Server, versions: std::ops::Range<u32>, expected: &str) -> Result<()> {
    for version in versions {
        if told(server, version).await? == expected {
            return Ok(());
        }
    }
    bail!("no new instance was told {expected}")
}

#[tokio::test]
async fn a_rotated_secret_reaches_what_starts_after_it() -> Result<()> {
    let server = server();
    let file = server.data().join("secrets.toml");
    assert_eq!(told(&server, 1).await?, "none");
    std::fs::write(&file, "TOKEN = \"first\"\n")?;
    until_told(&server, 2..100, "first").await?;
    std::fs::write(&file, "this is no TOML")?;
    eventually("the broken file is noticed", || async {
        let log = std::fs::read_to_string(server.data().join("../server.log")).ok()?;
        log.contains("the secrets stay as they were").then_some(())
    })
    .await;
    assert_eq!(told(&server, 101).await?, "first");
    std::fs::write(&file, "TOKEN = \"second one\"\n")?;
    until_told(&server, 102..200, "second one").await?;
    let log = std::fs::read_to_string(server.data().join("../server.log"))?;
    assert!(!log.contains("second one"), "{log}");
    Ok(())
}
