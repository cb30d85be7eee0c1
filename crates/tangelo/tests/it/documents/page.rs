//! The handler of the first document, with axios beside it: it calls a host whose name is fixed in it.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};
use http::StatusCode;
use testkit::eventually;

use super::{document, node_modules};
use crate::{ECHO, server};

/// `HOST` is the name that the handler has for it.
const MANIFEST: &str = "
app: page
workloads:
  catalog:
    as: service
    run: {process: {command: [python3, echo.py]}}
  caller:
    as: function
    run: {lambda: {runtime: nodejs, handler: index.handler, code: caller}}
    calls: [catalog]
gateway:
  routes:
    - {path: /page, to: caller}
hosts: {HOST: catalog}
";

#[tokio::test]
async fn the_axios_handler_reaches_the_host_that_is_fixed_in_it() -> Result<()> {
    let Some(text) = document("000_") else {
        return Ok(());
    };
    let handler = block(&text, "javascript").context("a block of code")?;
    let url = handler.split('\'').find(|part| part.starts_with("http://"));
    let url: http::Uri = url.context("an address in the handler")?.parse()?;
    let host = url.host().context("a host in the address")?;

    let server = server();
    bring(&["axios"], &server.scratch().join("caller/node_modules"))?;
    server.deploy(&[
        ("tangelo.yaml", &MANIFEST.replace("HOST", host)),
        ("echo.py", ECHO),
        ("caller/index.js", handler),
    ])?;
    let answer = server.gateway().get("/page").await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let seen = answer.json();
    assert_eq!(
        (&seen["path"], &seen["headers"]["host"]),
        (&url.path().into(), &host.into()),
        "{seen}"
    );
    let agent = seen["headers"]["user-agent"].as_str().unwrap_or_default();
    assert!(agent.starts_with("axios/"), "{agent}");
    eventually("what the handler prints is in its log", || async {
        let output = server.cli(&["logs", "caller"]).ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.contains(url.path()).then_some(())
    })
    .await;
    Ok(())
}

/// The first block of Markdown in this language.
fn block<'t>(text: &'t str, language: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("```{language}\n"))?;
    Some(rest.split_once("```")?.0)
}

/// Puts packages and all that they need into a `node_modules`, as npm would have.
fn bring(packages: &[&str], into: &Path) -> Result<()> {
    let mut wanted: Vec<String> = packages.iter().map(|name| (*name).to_owned()).collect();
    let mut there = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        let from = node_modules().join(&name);
        if !from.is_dir() || !there.insert(name.clone()) {
            // What is not there lies in the folder of the package that needs it.
            continue;
        }
        let to = into.join(&name);
        fs::create_dir_all(to.parent().context("a folder in a folder")?)?;
        let package: serde_json::Value =
            serde_json::from_slice(&fs::read(from.join("package.json"))?)?;
        copy(&from, &to)?;
        let needs = package["dependencies"].as_object();
        wanted.extend(needs.into_iter().flatten().map(|(name, _)| name.clone()));
    }
    Ok(())
}

/// A folder with all that is in it: a link to it would lead out of the app, and is no part of that.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => {
                fs::copy(entry.path(), to)?;
            }
        }
    }
    Ok(())
}
