//! The control API, as an operator's program asks it: over TCP, with the token that lies in the data folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{
    http::{Client, Request},
    server::Server,
};

/// A client that outlives its servers: they all listen at the same place.
pub(super) struct Control {
    client: Client,
    token: PathBuf,
}

impl Control {
    pub(super) fn of(server: &Server, data: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            client: Client::new(server.control()?),
            token: data.join("operator.token"),
        })
    }

    pub(super) fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.send(Request::get(path))
    }

    pub(super) fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Request::post(path, body))
    }

    /// How a subscription stands.
    pub(super) fn stands(&mut self, subscription: &str) -> anyhow::Result<Stands> {
        let shown = self.get(&format!("/v1/subscriptions/{subscription}"))?;
        let mut ranges = shown["ranges"].as_array().into_iter().flatten();
        let range = ranges.find(|range| range["through"].is_null());
        let settled = range.and_then(|range| range["settled"].as_u64());
        let count = |what: &str| shown["stands"][what].as_u64();
        let counts = ["backlog", "in_flight", "retrying"].map(count);
        let waits = counts.into_iter().sum::<Option<u64>>();
        Ok(Stands {
            settled: settled.context("a subscription says how far it is settled")?,
            waits: waits.context("a subscription says what waits")?,
            dead: count("dead").context("a subscription says what is dead")?,
        })
    }

    fn send(&mut self, request: Request<'_>) -> anyhow::Result<Value> {
        let token = fs::read_to_string(&self.token)?;
        let request = request.header("authorization", format!("Bearer {}", token.trim()));
        let answer = self.client.send(&request)?;
        let body = answer.json();
        let path = request.path;
        ensure!(
            (200..300).contains(&answer.status),
            "{path}: {} {body}",
            answer.status
        );
        Ok(body)
    }
}

/// How a subscription stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stands {
    /// The position up to which all is over, on disk.
    pub(super) settled: u64,
    /// Deliveries that wait or are under way.
    pub(super) waits: u64,
    /// Dead letters.
    pub(super) dead: u64,
}
