//! Deploys, rollbacks, mistakes, kills: what a server keeps and what it leaves behind.

use std::path::Path;

use anyhow::Result;
use http::StatusCode;
use testkit::eventually;

use crate::{ECHO, server};

fn manifest(timeout: &str) -> String {
    format!(
        "
app: life
workloads:
  echo:
    as: service
    run: {{process: {{command: [python3, echo.py]}}}}
    timeout: {timeout}
  other:
    as: service
    run: {{process: {{command: [python3, echo.py]}}}}
gateway:
  routes:
    - {{path: /echo, to: echo}}
    - {{path: /other, to: other}}
"
    )
}

#[tokio::test]
async fn a_deploy_replaces_what_changed_and_a_rollback_brings_it_back() -> Result<()> {
    let server = server();
    server.deploy(&[("tangelo.yaml", &manifest("5s")), ("echo.py", ECHO)])?;
    let pid = |path: &'static str| {
        let gateway = server.gateway();
        async move {
            gateway
                .get(path)
                .await
                .map(|answer| answer.json()["pid"].clone())
        }
    };
    let (echo, other) = (pid("/echo").await?, pid("/other").await?);
    let second = server.deploy(&[("tangelo.yaml", &manifest("6s"))])?;
    assert_eq!(
        (&second["revision"], &second["changed"]),
        (&2.into(), &serde_json::json!(["echo"]))
    );
    eventually("the changed service runs anew", || async {
        pid("/echo").await.ok().filter(|p| *p != echo)
    })
    .await;
    assert_eq!(pid("/other").await?, other);
    let again = server.deploy(&[])?;
    assert_eq!(
        (&again["revision"], &again["changed"]),
        (&2.into(), &serde_json::json!([]))
    );
    assert_eq!(server.json(&["rollback", "life"])?["revision"], 1);
    let revisions = server.json(&["revisions", "life"])?;
    assert!(
        revisions["revisions"]
            .as_array()
            .is_some_and(|r| r.len() == 2 && r[1]["live"] == true),
        "{revisions}"
    );
    Ok(())
}

#[tokio::test]
async fn a_service_that_does_not_start_never_becomes_live() -> Result<()> {
    let server = server();
    server.deploy(&[("tangelo.yaml", &manifest("5s")), ("echo.py", ECHO)])?;
    let output = {
        std::fs::write(
            server.scratch().join("echo.py"),
            "raise SystemExit('no such thing')",
        )?;
        server.cli(&["deploy", server.scratch().to_str().expect("is UTF-8")])?
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains("TG0604") && stderr.contains("no such thing"),
        "{stderr}"
    );
    assert_eq!(server.gateway().get("/echo").await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_deploy_that_nobody_waits_for_is_called_off() -> Result<()> {
    let server = server();
    server.deploy(&[("tangelo.yaml", &manifest("5s")), ("echo.py", ECHO)])?;
    // It says who it is and never listens.
    let started = server.scratch().join("started");
    let never = format!(
        "import os, time\nopen({started:?}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    );
    std::fs::write(server.scratch().join("echo.py"), never)?;
    let folder = server.scratch();
    let mut deploy = server
        .command(&["deploy", folder.to_str().expect("is UTF-8")])
        .spawn()?;
    let pid = eventually("its candidate has started", || async {
        std::fs::read_to_string(&started)
            .ok()
            .filter(|pid| !pid.is_empty())
    })
    .await;
    deploy.kill()?;
    deploy.wait()?;
    eventually("the candidate is gone", || async {
        (!Path::new("/proc").join(&pid).exists()).then_some(())
    })
    .await;
    assert_eq!(server.gateway().get("/echo").await?.status, StatusCode::OK);
    std::fs::write(folder.join("echo.py"), format!("{ECHO}\n"))?;
    assert_eq!(server.deploy_folder(&folder)?["revision"], 2);
    Ok(())
}

#[tokio::test]
async fn a_killed_server_leaves_no_process_and_serves_again() -> Result<()> {
    let mut server = server();
    server.deploy(&[("tangelo.yaml", &manifest("5s")), ("echo.py", ECHO)])?;
    let pid = server.gateway().get("/echo").await?.json()["pid"].to_string();
    server.kill()?;
    eventually("the workload's process is gone", || async {
        (!Path::new("/proc").join(&pid).exists()).then_some(())
    })
    .await;
    server.restart()?;
    assert_eq!(server.gateway().get("/echo").await?.status, StatusCode::OK);
    server.stop()
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused() -> Result<()> {
    let server = server();
    server.deploy(&[("tangelo.yaml", &manifest("5s")), ("echo.py", ECHO)])?;
    let pid = server.gateway().get("/echo").await?.json()["pid"].clone();
    let any = "127.0.0.1:0";
    let doors = ["--gateway", "--control", "--aws", "--otlp-in"];
    let flags = doors.into_iter().flat_map(|door| [door, any]);
    let output = server.cli(&["serve"].into_iter().chain(flags).collect::<Vec<_>>())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains("TG0702"),
        "{stderr}"
    );
    let after = server.gateway().get("/echo").await?.json()["pid"].clone();
    assert_eq!(after, pid, "the first server's instances are left alone");
    Ok(())
}

#[tokio::test]
async fn mistakes_in_a_manifest_are_all_told_with_their_places() -> Result<()> {
    let server = server();
    std::fs::create_dir_all(server.scratch())?;
    std::fs::write(
        server.scratch().join("tangelo.yaml"),
        "app: x\nworkloads:\n  a: {as: servce, run: {process: {command: []}}}\ngateway: {routes: [{path: /, to: b}]}\n",
    )?;
    let output = server.cli(&["check", server.scratch().to_str().expect("is UTF-8")])?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    assert!(
        stdout.contains("tangelo.yaml:3")
            && stdout.contains("service")
            && stdout.contains("tangelo.yaml:4"),
        "{stdout}"
    );
    Ok(())
}

#[tokio::test]
async fn old_versions_leave_the_disk_and_can_be_gone_back_to() -> Result<()> {
    let server = testkit::Server::start_with(crate::TANGELO, &["--keep-revisions", "4"])?;
    let manifest = |timeout: u64| {
        format!(
            "
app: life
workloads:
  hello:
    as: function
    run: {{lambda: {{runtime: python3, handler: hello.handler, code: hello}}}}
    timeout: {timeout}s
gateway: {{routes: [{{path: /, to: hello}}]}}
"
        )
    };
    let handler = "def handler(event, context): return 'hello'";
    for timeout in 1..=7 {
        let manifest = manifest(timeout);
        server.deploy(&[("tangelo.yaml", &manifest), ("hello/hello.py", handler)])?;
    }
    let folders = || {
        let entries = std::fs::read_dir(server.data().join("versions"));
        entries.map_or(0, Iterator::count)
    };
    eventually("only the newest versions are unpacked", || async {
        (folders() == 3).then_some(())
    })
    .await;
    let revisions = server.json(&["revisions", "life"])?;
    let kept = revisions["revisions"].as_array().map_or(0, Vec::len);
    assert_eq!(kept, 4, "{revisions}");
    assert_eq!(
        server.json(&["rollback", "life", "--to", "4"])?["revision"],
        4
    );
    assert_eq!(server.gateway().get("/").await?.text(), "hello");
    Ok(())
}

/// A service that never listens, and is waited for longer than any test.
const NEVER: &str = "
app: never
workloads:
  silent:
    as: service
    run: {process: {command: [sleep, '1000']}}
    health: {startup: {path: /, failures: 10000}}
";

#[tokio::test]
async fn a_deploy_that_waits_for_an_instance_keeps_no_other_app_waiting() -> Result<()> {
    let server = server();
    let folder = server.scratch().join("never");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("tangelo.yaml"), NEVER)?;
    let folder = folder.to_str().expect("is UTF-8").to_owned();
    let mut waits = server
        .command(&["deploy", &folder])
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let told = std::io::BufReader::new(waits.stderr.take().expect("is piped"));
    let mut told = std::io::BufRead::lines(told);
    let waiting = told.any(|line| line.is_ok_and(|line| line.contains("silent is not ready yet")));
    assert!(waiting, "it says for whom it waits");
    let other = server.deploy(&[("tangelo.yaml", &manifest("5s")), ("echo.py", ECHO)])?;
    assert_eq!(other["revision"], 1);
    let again = server.deploy(&[("tangelo.yaml", &manifest("6s"))])?;
    assert_eq!(again["revision"], 2);
    assert!(waits.try_wait()?.is_none(), "it still waits");
    // Whoever waits gives up: what was brought up for it ends.
    waits.kill()?;
    waits.wait()?;
    let mended = NEVER.replace("[sleep, '1000']", "[python3, echo.py]");
    std::fs::write(std::path::Path::new(&folder).join("tangelo.yaml"), mended)?;
    std::fs::write(std::path::Path::new(&folder).join("echo.py"), ECHO)?;
    assert_eq!(server.json(&["deploy", &folder])?["app"], "never");
    Ok(())
}

/// Where the data folder lost files of one app, that app is not served, which is said; nobody else notices.
#[tokio::test]
async fn an_app_whose_files_are_damaged_leaves_the_others_served() -> Result<()> {
    let mut server = server();
    let app = |name: &str| {
        format!(
            "app: {name}\nworkloads:\n  echo:\n    as: service\n    run: {{process: {{command: [python3, echo.py]}}}}\n\
             gateway:\n  routes:\n    - {{path: /{name}, to: echo}}\n"
        )
    };
    let blobs = |server: &testkit::Server| -> std::collections::BTreeSet<std::path::PathBuf> {
        let folders = std::fs::read_dir(server.data().join("blobs"))
            .into_iter()
            .flatten();
        let files = folders
            .flatten()
            .filter_map(|folder| std::fs::read_dir(folder.path()).ok());
        files.flatten().flatten().map(|file| file.path()).collect()
    };
    server.deploy(&[("tangelo.yaml", &app("good")), ("echo.py", ECHO)])?;
    let before = blobs(&server);
    let other = format!("{ECHO}\n# of the other app\n");
    server.deploy(&[("tangelo.yaml", &app("bad")), ("echo.py", &other)])?;
    server.stop()?;
    for blob in blobs(&server).difference(&before) {
        std::fs::write(blob, "something else")?;
    }
    // Unpacked files are not looked at as long as they are there.
    std::fs::remove_dir_all(server.data().join("versions"))?;
    server.restart()?;
    assert_eq!(server.gateway().get("/good").await?.status, StatusCode::OK);
    assert_eq!(
        server.gateway().get("/bad").await?.status,
        StatusCode::NOT_FOUND
    );
    Ok(())
}

#[test]
fn a_damaged_database_is_called_that_and_not_a_full_disk() -> Result<()> {
    let mut server = server();
    server.stop()?;
    std::fs::write(server.data().join("state.db"), "no database ".repeat(1000))?;
    // What was written last may be there twice, and mends the rest.
    let _ = std::fs::remove_file(server.data().join("state.db-wal"));
    let error = format!("{:#}", server.restart().expect_err("it does not start"));
    assert!(
        error.contains("`state.db` is damaged") && error.contains("TG0709"),
        "{error}"
    );
    assert!(error.contains("file is not a database"), "and why: {error}");
    Ok(())
}
