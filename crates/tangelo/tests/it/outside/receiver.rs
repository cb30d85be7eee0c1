//! An endpoint of somebody else, in Python, with the library of the Standard Webhooks convention.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::{Client, Server, eventually};

/// Two secrets of the convention's shape.
pub(super) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(super) const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// The endpoint; killed when dropped.
pub(super) struct Receiver {
    child: Child,
    pub(super) port: u16,
    control: Client,
}

/// A request that came.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Seen {
    pub(super) id: Option<String>,
    /// For each of the receiver's secrets, whether the library finds it signed with that.
    pub(super) valid: Vec<bool>,
    pub(super) path: String,
    pub(super) headers: serde_json::Map<String, Value>,
    pub(super) body: String,
}

impl Receiver {
    /// Starts one that knows `secrets`; with the file of a certificate it speaks TLS.
    pub(super) fn start(secrets: &[&str], certificate: Option<&str>) -> Result<Self> {
        let python = testkit::tools("tangelo").join("venv/bin/python");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/outside/receiver.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(json!(secrets).to_string())
            .args(certificate)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("stdout is piped")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let ports: Value = serde_json::from_str(&line).context("the receiver starts")?;
        let port = |name: &str| ports[name].as_u64().context("a port");
        let control = format!("http://127.0.0.1:{}", port("control")?);
        Ok(Self {
            child,
            port: u16::try_from(port("port")?)?,
            control: Client::new(&control),
        })
    }

    /// How it answers from now on.
    pub(super) async fn mode(&self, mode: &str) -> Result<()> {
        let mode = Bytes::from(mode.to_owned());
        self.control.send(Method::PUT, "/mode", &[], mode).await?;
        Ok(())
    }

    /// What came so far.
    pub(super) async fn seen(&self) -> Result<Vec<Seen>> {
        let answer = self.control.get("/seen").await?;
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// What came when it was `count` or more.
    pub(super) async fn saw(&self, count: usize) -> Vec<Seen> {
        let what = format!("{count} requests come");
        eventually(&what, || async {
            let seen = self.seen().await.ok()?;
            (seen.len() >= count).then_some(seen)
        })
        .await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers[name].as_str().unwrap_or_default()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// A server that has these secrets, and the folder of their file.
pub(super) fn server(secrets: &[(&str, &str)]) -> Result<(Server, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    write(&folder, secrets)?;
    let file = folder.path().join("secrets.toml").display().to_string();
    let server = Server::start_with(crate::TANGELO, &["--secrets", &file])?;
    Ok((server, folder))
}

/// Writes the file of secrets anew.
pub(super) fn write(folder: &tempfile::TempDir, secrets: &[(&str, &str)]) -> Result<()> {
    let lines = secrets.iter();
    let lines: String = lines
        .map(|(name, value)| format!("{name} = \"{value}\"\n"))
        .collect();
    Ok(std::fs::write(folder.path().join("secrets.toml"), lines)?)
}

/// A manifest of an app `bus` whose subscription `partner` posts to the receiver, with more terms of it, and more of
/// its webhook.
pub(super) fn manifest(port: u16, terms: &str, webhook: &str) -> String {
    format!(
        "app: bus\nsubscriptions:\n  partner:\n    event: {{type: [order.created]}}\n{terms}    to:\n      webhook:\n        \
         url: 'http://127.0.0.1:{port}/in?from=bus'\n        secret: [PARTNER]\n        egress: ['127.0.0.1:{port}']\n{webhook}"
    )
}

/// Publishes an event of type `order.created`.
pub(super) fn publish(server: &Server, id: &str, subject: &str) -> Result<()> {
    let data = json!({ "id": id }).to_string();
    let said = ["publish", "order.created", "--id", id, "--subject", subject];
    let said = [&said[..], &["--source", "/it", "-d", &data]].concat();
    server.json(&said).map(drop)
}

/// What `tangelo subscriptions` says of the partner.
pub(super) fn stands(server: &Server) -> Result<Value> {
    let all = server.json(&["subscriptions"])?;
    let all = all["subscriptions"].as_array().cloned().unwrap_or_default();
    let ours = |row: &Value| row["subscription"] == "bus/partner/events";
    all.into_iter().find(ours).context("it is subscribed")
}
