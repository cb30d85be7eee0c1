//! What `tangelo init` writes works as it is: built by the real cargo, componentize-js and componentize-py where it is a
//! component, deployed, and asked over HTTP. The first run installs the builders' tools (`TANGELO_CACHE`).

use anyhow::{Context, Result};
use http::StatusCode;
use testkit::Server;

use crate::server;

/// Runs `tangelo ARGUMENTS FOLDER`, and wants success; what it wrote, progress included.
fn run(server: &Server, arguments: &[&str]) -> Result<String> {
    let folder = server.scratch();
    let folder = folder.to_str().context("a path in UTF-8")?;
    let output = server.cli(&[arguments, &[folder]].concat())?;
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "tangelo {arguments:?} failed: {told}"
    );
    Ok(told)
}

/// An app from `template` that answers as its code says.
async fn greets(template: &str) -> Result<Server> {
    let server = server();
    run(
        &server,
        &["init", "--template", template, "--name", "greeter"],
    )?;
    run(&server, &["check"])?;
    server.deploy_folder(&server.scratch())?;
    let answer = server.gateway().get("/hello?name=you").await?;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (StatusCode::OK, "Hello, you!\n"),
        "{template}"
    );
    Ok(server)
}

/// A component is built once, again when its source changed, and what the builder says of a mistake is shown.
async fn rebuilds(template: &str, source: &str, mistake: &str) -> Result<()> {
    let server = greets(template).await?;
    let source = server.scratch().join(source);
    let text = std::fs::read_to_string(&source)?;
    std::fs::write(&source, text.replace("Hello, ", "Good day, "))?;
    assert!(run(&server, &["build"])?.contains("built hello in "));
    assert!(!run(&server, &["build"])?.contains("built hello in "));
    server.deploy_folder(&server.scratch())?;
    let answer = server.gateway().get("/hello").await?;
    assert_eq!(answer.text(), "Good day, world!\n", "{template}");
    std::fs::write(&source, mistake)?;
    let failed = run(&server, &["build"]).unwrap_or_else(|error| error.to_string());
    assert!(
        failed.contains("TG0102") && failed.contains("nonsense"),
        "{failed}"
    );
    let still = server.gateway().get("/hello").await?;
    assert_eq!(still.text(), "Good day, world!\n", "{template}");
    Ok(())
}

#[tokio::test]
async fn a_component_in_rust() -> Result<()> {
    rebuilds("rust", "hello/src/main.rs", "fn main() { nonsense }").await
}

#[tokio::test]
async fn a_component_in_javascript() -> Result<()> {
    rebuilds("js", "hello.js", "nonsense nonsense").await
}

#[tokio::test]
async fn a_component_in_python() -> Result<()> {
    rebuilds("python", "hello/app.py", "import nonsense").await
}

#[tokio::test]
async fn a_handler_in_python() -> Result<()> {
    greets("python-handler").await.map(drop)
}

#[tokio::test]
async fn a_handler_in_node() -> Result<()> {
    greets("node-handler").await.map(drop)
}

#[tokio::test]
async fn a_process() -> Result<()> {
    greets("process").await.map(drop)
}

#[tokio::test]
async fn nothing_of_the_user_is_overwritten() -> Result<()> {
    let server = server();
    std::fs::create_dir_all(server.scratch())?;
    std::fs::write(server.scratch().join("tangelo.yaml"), "mine")?;
    let refused = run(&server, &["init"]).unwrap_or_else(|error| error.to_string());
    assert!(refused.contains("nothing was written"), "{refused}");
    assert_eq!(
        std::fs::read_to_string(server.scratch().join("tangelo.yaml"))?,
        "mine"
    );
    Ok(())
}
