//! Containers of the shipped binary on a real Podman and a real Docker, and what a kill of the server leaves of them: nothing.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Command,
};

use anyhow::{Context, Result};
use http::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use testkit::{ContainerEngine, EngineKind, ImageFiles, Server, eventually};

use crate::TANGELO;

const MANIFEST: &str = "
app: boxed
workloads:
  box:
    as: service
    run: {container: {image: 'box:1', pull: never, volumes: {kept: /data}}}
    health: /health
    memory: 64MiB
    calls: [echo]
    env: {ROUND: '1'}
  echo:
    as: service
    run: {process: {command: [python3, echo.py]}}
  elsewhere:
    as: service
    run: {external: {url: 'http://127.0.0.1:ELSEWHERE'}}
gateway:
  routes:
    - {path: /box/*, to: box, rewrite: /*}
    - {path: /echo/*, to: echo, rewrite: /*}
    - {path: /elsewhere/*, to: elsewhere, rewrite: /*}
";

/// Its server says a file, and by a script calls another workload over the mesh.
const START: &str = "exec /bin/busybox httpd -f -p 127.0.0.1:$PORT -h /www\n";
const CALL: &str = "printf 'Content-Type: application/json\\r\\n\\r\\n'
exec /bin/busybox wget -q -O - $ECHO_URL/from-a-container
";
const KEEP: &str = "printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo round $ROUND >> /data/kept
exec /bin/busybox cat /data/kept
";

/// Asks an engine with the image `box:1`; nothing where it cannot run, which is said.
async fn on(
    kind: EngineKind,
    scenario: impl AsyncFnOnce(&ContainerEngine) -> Result<()>,
) -> Result<()> {
    let files = ImageFiles {
        start: START,
        scripts: vec![("call", CALL.to_owned()), ("keep", KEEP.to_owned())],
    };
    match ContainerEngine::start(kind, TempDir::new()?, "box:1", &files).await {
        Some(engine) => scenario(&engine).await,
        None => Ok(()),
    }
}

/// A server that asks this engine.
fn serve(engine: &ContainerEngine) -> Result<Server> {
    let socket = engine.socket().display().to_string();
    Server::start_with(TANGELO, &["--containers", &socket, "--grace", "1s"])
}

fn deploy(server: &Server, manifest: &str) -> Result<Value> {
    let manifest = manifest.replace("ELSEWHERE", "9");
    server.deploy(&[("tangelo.yaml", &manifest), ("echo.py", crate::ECHO)])
}

#[tokio::test]
async fn a_container_is_an_instance_and_a_killed_server_s_are_swept_before_anything_listens()
-> Result<()> {
    on(EngineKind::Podman, swept).await
}

async fn swept(engine: &ContainerEngine) -> Result<()> {
    let mut server = serve(engine)?;
    deploy(&server, MANIFEST)?;
    let called = server.gateway().get("/box/cgi-bin/call").await?;
    assert_eq!(called.status, StatusCode::OK, "{}", called.text());
    assert_eq!(called.json()["path"], "/from-a-container", "over the mesh");
    let said = server.json(&["ps", "--isolation"])?.to_string();
    assert!(said.contains("own file system, read-only"), "{said}");
    let before = engine.containers();
    assert_eq!(before.len(), 1);

    server.kill()?;
    assert_eq!(engine.containers(), before, "an engine keeps what it runs");
    server.restart()?;
    let mut after = engine.containers();
    after.retain(|id| before.contains(id));
    assert!(
        after.is_empty(),
        "the old one is gone when the server is ready"
    );
    assert_eq!(server.gateway().get("/box/health").await?.text(), "well");
    server.stop()?;
    assert!(engine.containers().is_empty(), "nothing is left");

    // One that is on its way out when the server is told to stop.
    server.restart()?;
    assert_eq!(server.gateway().get("/box/health").await?.text(), "well");
    let without = "app: boxed\nworkloads:\n  echo:\n    as: service\n    run: {process: {command: [python3, echo.py]}}\n";
    deploy(&server, without)?;
    server.stop()?;
    assert!(engine.containers().is_empty(), "nothing is left");
    Ok(())
}

#[tokio::test]
async fn a_named_volume_outlives_instances_deploys_and_the_server() -> Result<()> {
    on(EngineKind::Podman, kept).await
}

async fn kept(engine: &ContainerEngine) -> Result<()> {
    let mut server = serve(engine)?;
    deploy(&server, MANIFEST)?;
    let keep = async |server: &Server| -> Result<String> {
        let kept = server.gateway().get("/box/cgi-bin/keep").await?;
        assert_eq!(kept.status, StatusCode::OK, "{}", kept.text());
        Ok(kept.text())
    };
    assert_eq!(keep(&server).await?, "round 1\n");
    // An instance that ends, and the one in its place.
    let first = engine.containers();
    assert!(engine.run(&["kill", &first[0]]).status.success());
    eventually("another one serves", || async {
        let there = engine.containers();
        let well = server.gateway().get("/box/health").await.ok()?;
        (well.status == StatusCode::OK && !there.contains(&first[0])).then_some(())
    })
    .await;
    assert_eq!(keep(&server).await?, "round 1\nround 1\n");
    // Another version of the workload.
    deploy(&server, &MANIFEST.replace("ROUND: '1'", "ROUND: '2'"))?;
    assert!(keep(&server).await?.ends_with("round 1\nround 2\n"));
    // A server that was killed, and one that was stopped.
    server.kill()?;
    server.restart()?;
    assert!(keep(&server).await?.ends_with("round 2\nround 2\n"));
    server.stop()?;
    assert!(
        engine.containers().is_empty(),
        "nothing but the volume is left"
    );
    server.restart()?;
    assert_eq!(keep(&server).await?.lines().count(), 5);
    // The app itself: what it stored stays, and is there when it comes again.
    server.json(&["remove", "boxed"])?;
    deploy(&server, MANIFEST)?;
    assert_eq!(keep(&server).await?.lines().count(), 6);
    Ok(())
}

/// Answers each request with the same words, as a service that somebody else runs.
fn elsewhere() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut read, mut buffer) = (Vec::new(), [0; 1024]);
            while !read.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(length) if length > 0 => read.extend_from_slice(&buffer[..length]),
                    _ => break,
                }
            }
            let answer =
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nelsewhere";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    Ok(port)
}

#[tokio::test]
async fn a_process_an_image_and_what_others_run_are_routed_alike() -> Result<()> {
    on(EngineKind::Podman, routed).await
}

async fn routed(engine: &ContainerEngine) -> Result<()> {
    let server = serve(engine)?;
    deploy(
        &server,
        &MANIFEST.replace("ELSEWHERE", &elsewhere()?.to_string()),
    )?;
    let ask = async |path: &str| -> Result<String> {
        let answer = server.gateway().get(path).await?;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        Ok(answer.text())
    };
    assert_eq!(ask("/box/health").await?, "well");
    assert!(ask("/echo/health").await?.contains("/health"));
    assert_eq!(ask("/elsewhere/health").await?, "elsewhere");
    let listed = server.json(&["ps"])?;
    let mut runtimes: Vec<_> = listed["workloads"]
        .as_array()
        .context("a list")?
        .iter()
        .map(|row| row["runtime"].as_str())
        .collect();
    runtimes.sort_unstable();
    assert_eq!(
        runtimes,
        [Some("container"), Some("external"), Some("process")]
    );
    let socket = engine.socket().display().to_string();
    // And the machine's doctor says what it found.
    let doctor = Command::new(TANGELO)
        .args(["--json", "--data"])
        .arg(server.data())
        .args(["doctor", "--containers", &socket])
        .output()?;
    let said: Value = serde_json::from_slice(&doctor.stdout)?;
    let finding = said["findings"]
        .as_array()
        .context("a list")?
        .iter()
        .find(|one| one["what"] == "container engine");
    let found = finding.context("it is said")?["found"]
        .as_str()
        .unwrap_or_default();
    let name = engine.kind().name();
    for part in [name, &socket, "cgroup v", "(cgroupfs)", "pull"] {
        assert!(found.contains(part), "{part}: {found}");
    }
    Ok(())
}

#[tokio::test]
async fn docker_runs_containers_as_podman_does() -> Result<()> {
    on(EngineKind::Docker, async |engine| {
        // In this order, because a server that is dropped leaves its containers.
        swept(engine).await?;
        kept(engine).await?;
        routed(engine).await
    })
    .await
}
