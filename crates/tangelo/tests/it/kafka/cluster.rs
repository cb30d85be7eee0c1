//! A cluster of Kafka's and its own client, in a process beside the test: see `cluster.py`.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// The cluster and its client; killed when dropped.
pub(super) struct Cluster {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Its brokers, as a list of a manifest.
    pub(super) brokers: String,
}

/// A record that was read.
#[derive(Debug, Clone)]
pub(super) struct Record(pub(super) Value);

impl Record {
    pub(super) fn header(&self, name: &str) -> &str {
        self.0["headers"][name].as_str().unwrap_or_default()
    }

    pub(super) fn id(&self) -> &str {
        self.header("ce_id")
    }

    pub(super) fn key(&self) -> &str {
        self.0["key"].as_str().unwrap_or_default()
    }

    pub(super) fn value(&self) -> &str {
        self.0["value"].as_str().unwrap_or_default()
    }
}

impl Cluster {
    pub(super) fn start(topics: &[&str]) -> Result<Self> {
        Self::spawn(&[], topics)
    }

    /// One that asks for TLS and for a login.
    pub(super) fn secure(
        topics: &[&str],
        [certificate, key]: [&Path; 2],
        [user, password]: [&str; 2],
    ) -> Result<Self> {
        let (certificate, key) = (certificate.to_string_lossy(), key.to_string_lossy());
        Self::spawn(&["--secure", &certificate, &key, user, password], topics)
    }

    fn spawn(flags: &[&str], topics: &[&str]) -> Result<Self> {
        let python = testkit::tools("tangelo").join("venv/bin/python");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/kafka/cluster.py");
        let mut child = Command::new(python)
            .arg("-B")
            .arg(script)
            .args(flags)
            .args(topics)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let input = child.stdin.take().context("stdin is piped")?;
        let mut output = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line).context("the cluster starts")?;
        Ok(Self {
            child,
            input,
            output,
            brokers: ready["brokers"].to_string(),
        })
    }

    fn ask(&mut self, what: &Value) -> Result<Value> {
        writeln!(self.input, "{what}")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).context("the client answers")
    }

    /// Writes records, and says to which partitions they went.
    pub(super) fn produce(&mut self, topic: &str, records: &[Value]) -> Result<Vec<i64>> {
        let placed = self.ask(&json!({"produce": topic, "records": records}))?;
        let placed = placed.as_array().cloned().unwrap_or_default();
        ensure!(placed.len() == records.len(), "{placed:?}");
        let partition = |one: &Value| {
            ensure!(one["error"].is_null(), "{one}");
            one["partition"].as_i64().context("it has a place")
        };
        placed.iter().map(partition).collect()
    }

    /// All records of a topic, once there are `count`; each partition's in its order.
    pub(super) fn consume(&mut self, topic: &str, count: usize) -> Result<Vec<Record>> {
        let records = self.ask(&json!({"consume": topic, "count": count}))?;
        let records = records.as_array().cloned().unwrap_or_default();
        ensure!(records.len() >= count, "{records:?}");
        Ok(records.into_iter().map(Record).collect())
    }

    /// The brokers close all connections and take none, or are there again.
    pub(super) fn away(&mut self, away: bool) -> Result<()> {
        self.ask(&json!({ "away": away })).map(drop)
    }

    /// What is written next is there, and nobody is told: the connection breaks instead.
    pub(super) fn lose_answers(&mut self, count: u32) -> Result<()> {
        self.ask(&json!({ "lose": count })).map(drop)
    }

    /// The most bytes that are written at once.
    pub(super) fn takes_at_most(&mut self, bytes: u32) -> Result<()> {
        self.ask(&json!({ "most": bytes })).map(drop)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
