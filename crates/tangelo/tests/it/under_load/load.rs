//! Steady load: clients that ask again as soon as they have an answer, and note everything that is not one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use testkit::eventually;
use tokio::{net::TcpStream, task::JoinHandle};

/// Answers that every client gets before the load counts as steady.
const STEADY: usize = 3;

/// What is said of an answer whose head came, and whose body did not end.
pub(crate) const CUT_OFF: &str = "the answer was cut off";

/// Load that is on: for each path two clients that keep their connection and one that never does.
pub(crate) struct Load {
    stopping: Arc<AtomicBool>,
    clients: Vec<(Arc<AtomicUsize>, JoinHandle<Client>)>,
}

/// A client, and what it got.
#[derive(Debug)]
pub(crate) struct Client {
    authority: String,
    path: String,
    keeps: bool,
    connection: Option<SendRequest<Empty<Bytes>>>,
    /// Whatever was not an answer with 200.
    pub(crate) failures: Vec<String>,
    /// Answers by the version that they name.
    pub(crate) versions: BTreeMap<String, usize>,
}

impl Load {
    /// Starts the clients of `paths` below `base`.
    pub(crate) fn start(base: &str, paths: &[&str]) -> Self {
        let authority = base.trim_start_matches("http://").trim_end_matches('/');
        let stopping = Arc::new(AtomicBool::new(false));
        let each = paths
            .iter()
            .flat_map(|path| [(path, true), (path, true), (path, false)]);
        let clients = each.map(|(path, keeps)| {
            let client = Client {
                authority: authority.to_owned(),
                path: (*path).to_owned(),
                keeps,
                connection: None,
                failures: Vec::new(),
                versions: BTreeMap::new(),
            };
            let asked = Arc::new(AtomicUsize::new(0));
            let (stopping, count) = (Arc::clone(&stopping), Arc::clone(&asked));
            (asked, tokio::spawn(client.run(stopping, count)))
        });
        Self {
            clients: clients.collect(),
            stopping,
        }
    }

    /// Returns when every client was answered, or failed, several times more.
    pub(crate) async fn goes_on(&self) {
        let before: Vec<_> = self.clients.iter().map(|c| c.0.load(Relaxed)).collect();
        eventually("every client goes on", || async {
            let mut both = self.clients.iter().zip(&before);
            both.all(|(client, before)| client.0.load(Relaxed) >= before + STEADY)
                .then_some(())
        })
        .await;
    }

    /// Ends the load, and gives back its clients.
    pub(crate) async fn stop(self) -> Result<Vec<Client>> {
        self.stopping.store(true, Relaxed);
        let mut clients = Vec::new();
        for (_, client) in self.clients {
            clients.push(client.await?);
        }
        Ok(clients)
    }

    /// Ends the load, which nothing of may have failed.
    pub(crate) async fn stop_unharmed(self) -> Result<()> {
        let clients = self.stop().await?;
        let failures: Vec<_> = clients.iter().flat_map(|c| &c.failures).collect();
        let answers: usize = clients.iter().flat_map(|c| c.versions.values()).sum();
        ensure!(failures.is_empty(), "beside {answers}: {failures:#?}");
        Ok(())
    }
}

impl Client {
    async fn run(mut self, stopping: Arc<AtomicBool>, asked: Arc<AtomicUsize>) -> Self {
        while !stopping.load(Relaxed) {
            match self.ask().await {
                Ok(version) => *self.versions.entry(version).or_default() += 1,
                Err(error) => {
                    self.connection = None;
                    self.failures.push(format!("{}: {error:#}", self.path));
                }
            }
            asked.fetch_add(1, Relaxed);
        }
        self
    }

    /// The version that answers.
    async fn ask(&mut self) -> Result<String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(&self.authority).await?;
                let (sender, connection) = handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                sender
            }
        };
        connection.ready().await?;
        let request = Request::get(&self.path)
            .header("host", &self.authority)
            .body(Empty::new())?;
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = body.collect().await.context(CUT_OFF)?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        ensure!(head.status == StatusCode::OK, "{} {text}", head.status);
        if self.keeps {
            self.connection = Some(connection);
        }
        version(&text).ok_or_else(|| anyhow::anyhow!("says no version: {text}"))
    }
}

/// What an answer says of its version: JSON of the Python workloads (behind the status when the
/// Wasm guest fetched it), or the environment of the guest.
pub(crate) fn version(text: &str) -> Option<String> {
    if let Some(line) = text.lines().find_map(|l| l.strip_prefix("VERSION=")) {
        return Some(line.to_owned());
    }
    let json = &text[text.find('{')?..];
    let json: serde_json::Value = serde_json::from_str(json).ok()?;
    Some(json["version"].as_str()?.to_owned())
}
