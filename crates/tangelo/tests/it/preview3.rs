//! Components of WASI 0.3 on a server that is told to run them, and on one that is not.

use std::fs;

use anyhow::Result;
use testkit::{Server, eventually};
use tokio::task::JoinSet;

use crate::{TANGELO, server};

const MANIFEST: &str = "
app: next
workloads:
  guest:
    as: function
    run: {wasm: {component: guest.wasm, reuse: {requests: 1000, concurrent: 2}}}
    memory: 64MiB
    timeout: 30s
    on:
      - event: {type: [order.created]}
gateway: {routes: [{path: /*, to: guest}]}
";

fn deploy(server: &Server, guest: &str) -> Result<()> {
    fs::create_dir_all(server.scratch())?;
    fs::write(
        server.scratch().join("guest.wasm"),
        testkit::component(guest),
    )?;
    server.deploy(&[("tangelo.yaml", MANIFEST)]).map(drop)
}

#[tokio::test]
async fn a_server_that_is_not_told_to_refuses_the_deploy() -> Result<()> {
    let server = server();
    let error = deploy(&server, "preview3").expect_err("it is off");
    let said = format!("{error:#}");
    assert!(
        said.contains("TG0416") && said.contains("wasi_preview3 = true"),
        "{said}"
    );
    let error = deploy(&server, "behaviours").expect_err("it is of WASI 0.2");
    let said = format!("{error:#}");
    assert!(said.contains("TG0417"), "{said}");
    // The same without a server, from the file alone.
    let folder = server.scratch();
    let check = server.cli(&["check", folder.to_str().expect("a path in UTF-8")])?;
    let said = String::from_utf8(check.stdout)?;
    assert!(!check.status.success() && said.contains("TG0417"), "{said}");
    assert_eq!(
        server.gateway().get("/hello").await?.status,
        404,
        "nothing is there"
    );
    Ok(())
}

/// Requests that overlap in one instance, an event, and what they used; the same after a restart.
#[tokio::test]
async fn a_server_that_is_told_to_runs_it() -> Result<()> {
    let mut server = Server::start_with(TANGELO, &["--wasi-preview3", "true"])?;
    deploy(&server, "preview3")?;
    for id in ["before", "after"] {
        // Each waits in the guest until another has come into its instance. One that comes while the instance computes
        // gets one of its own, where it waits for the next one.
        let mut others = JoinSet::new();
        let first = server.gateway();
        let first = tokio::spawn(async move { first.get("/overlap?2").await });
        eventually("two have met", || {
            let other = server.gateway();
            others.spawn(async move { other.get("/overlap?2").await });
            let met = first.is_finished();
            async move { met.then_some(()) }
        })
        .await;
        assert_eq!(first.await??.text(), "2 inside\n");
        others.abort_all();
        server.json(&[
            "publish",
            "order.created",
            "--id",
            id,
            "-d",
            "{\"total\": 7}",
        ])?;
        let line = format!("event {id}");
        eventually("the event's line", || async {
            let lines = server.cli(&["--json", "logs", "guest"]).ok()?.stdout;
            String::from_utf8_lossy(&lines)
                .contains(&line)
                .then_some(())
        })
        .await;
        if id == "before" {
            server.kill()?;
            server.restart()?;
        }
    }
    let used = eventually("what it used is counted", || async {
        let usage = server.json(&["usage"]).ok()?;
        let rows = usage["usage"].as_array()?;
        let guest = rows.iter().find(|row| row["workload"] == "guest")?;
        (guest["requests"].as_u64() >= Some(3)).then(|| guest.clone())
    })
    .await;
    assert!(used["cpu_us"].as_u64() > Some(0), "{used}");
    Ok(())
}
