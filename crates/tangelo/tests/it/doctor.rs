//! `tangelo doctor` on machines that lack something: what it says, and whether a server would start.

use std::{net::TcpListener, os::unix::fs::PermissionsExt, path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{TANGELO, server};

/// Runs `doctor --json` with `data`, a `PATH` and more arguments: whether it found the server fit, and what it said.
fn doctor(data: &Path, path: &Path, more: &[&str]) -> Result<(bool, Value)> {
    let any = "127.0.0.1:0";
    let output = Command::new(TANGELO)
        .args(["--json", "--data"])
        .arg(data)
        .args(["doctor", "--control", any, "--aws", any, "--otlp-in", any])
        .args(more)
        .env("PATH", path)
        .output()?;
    let said = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((output.status.success(), said))
}

fn finding(said: &Value, what: &str) -> Value {
    let all = said["findings"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|finding| finding["what"] == what);
    found.unwrap_or_else(|| panic!("nothing is said of {what}: {said}"))
}

#[test]
fn what_is_missing_is_named_with_what_would_not_work_and_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (fit, said) = doctor(
        &folder.path().join("data"),
        folder.path(),
        &["--gateway", "127.0.0.1:0"],
    )?;
    assert!(fit, "a server starts without any of it: {said}");
    for what in [
        "python3",
        "node",
        "npm",
        "cargo",
        "C compiler",
        "wasm32-wasip2",
    ] {
        let finding = finding(&said, what);
        assert_eq!(finding["state"], "missing", "{finding}");
        for part in ["without", "todo"] {
            assert!(
                finding[part].as_str().is_some_and(|t| !t.is_empty()),
                "{finding}"
            );
        }
    }
    for what in [
        "data folder",
        "disk space",
        "kernel",
        "open files",
        "clock",
        "limits",
        "container engine",
        "componentize-js",
        "gateway port",
    ] {
        finding(&said, what);
    }
    assert!(!folder.path().join("data").exists(), "nothing is made");
    Ok(())
}

#[test]
fn a_program_that_is_too_old_is_as_good_as_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = folder.path().join("node");
    std::fs::write(&node, "#!/bin/sh\necho v12.22.9\n")?;
    std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o700))?;
    let (_, said) = doctor(folder.path(), folder.path(), &["--gateway", "127.0.0.1:0"])?;
    let finding = finding(&said, "node");
    assert_eq!(finding["state"], "missing", "{finding}");
    assert!(
        finding["found"]
            .as_str()
            .is_some_and(|t| t.contains("older than 20.0")),
        "{finding}"
    );
    Ok(())
}

#[test]
fn where_a_server_would_not_start_it_fails_and_says_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let (fit, said) = doctor(folder.path(), folder.path(), &["--gateway", &address])?;
    assert!(!fit && said["broken"] == 1, "{said}");
    let port = finding(&said, "gateway port");
    assert!(
        port["todo"]
            .as_str()
            .is_some_and(|t| t.contains("--gateway")),
        "{port}"
    );
    let file = folder.path().join("file");
    std::fs::write(&file, "")?;
    let (fit, said) = doctor(&file, folder.path(), &["--gateway", "127.0.0.1:0"])?;
    assert!(
        !fit && finding(&said, "data folder")["state"] == "broken",
        "{said}"
    );
    Ok(())
}

#[test]
fn the_ports_of_a_server_that_runs_here_are_its_own() -> Result<()> {
    let server = server();
    let address = server.addresses().gateway.replace("http://", "");
    let folder = tempfile::tempdir()?;
    let (fit, said) = doctor(&server.data(), folder.path(), &["--gateway", &address])?;
    assert!(fit, "{said}");
    let data = finding(&said, "data folder");
    assert!(
        data["found"]
            .as_str()
            .is_some_and(|t| t.contains("a server runs on it")),
        "{data}"
    );
    Ok(())
}
