//! Removing containers: one that ended, and all that a server that was killed left.

use std::{io, path::Path};

use bollard::{
    Docker,
    errors::Error as EngineError,
    query_parameters::{RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder},
};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, header::HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use model::{Error, code};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::net::UnixStream;

use super::{Engine, Found, LABEL, PATIENCE, connect, has_status, is_missing};

/// Bytes of a list of containers; each takes about 2 KiB of it.
const LONGEST_LIST: usize = 64 << 20;

/// What stopped a sweep, in words.
type Stopped = Box<dyn std::error::Error + Send + Sync>;

impl Engine {
    /// Removes every container that an earlier server on the same data folder left, and says how many those were. Call
    /// it before anything listens, and only while holding the folder's lock. Nothing is asked when there can be none.
    ///
    /// # Errors
    /// When an engine that has some does not answer or does not remove them; the next sweep tries again.
    pub async fn sweep(&self) -> Result<usize, Error> {
        let noted = std::fs::read_to_string(&self.0.record).unwrap_or_default();
        let mut removed = 0;
        for socket in noted.lines() {
            let left = |error: Stopped| {
                let message = "containers of an earlier server cannot be removed";
                Error::new(code::START_FAILED, message).context(format!("{socket}: {error}"))
            };
            let found = connect(Path::new(socket))
                .await
                .map_err(|error| left(error.into()))?;
            removed += self.remove_all(&found).await.map_err(left)?;
        }
        if !noted.is_empty() {
            let _ = std::fs::remove_file(&self.0.record);
        }
        Ok(removed)
    }

    async fn remove_all(&self, found: &Found) -> Result<usize, Stopped> {
        let label = format!("{LABEL}={}", self.0.mark);
        let listed = listed(&found.facts.socket, &label);
        let ids = tokio::time::timeout(PATIENCE, listed).await??;
        for id in &ids {
            remove(&found.docker, id).await?;
        }
        Ok(ids.len())
    }
}

/// What is read of a container in a list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

/// The ids of all containers with this label. Not by the client library, which knows the states of Docker and reads no list in which
/// another is: Podman has containers that are `stopped`, for a moment when they end and for good when it was killed then.
async fn listed(socket: &Path, label: &str) -> Result<Vec<String>, Stopped> {
    let filters = serde_json::json!({"label": [label]}).to_string();
    let filters = utf8_percent_encode(&filters, NON_ALPHANUMERIC);
    let request = Request::get(format!("/containers/json?all=true&filters={filters}"))
        .header(HOST, "engine")
        .body(Empty::<Bytes>::new())?;
    let stream = TokioIo::new(UnixStream::connect(socket).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    // Ends when the sender is dropped.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LONGEST_LIST);
    let body = body.collect().await?.to_bytes();
    if !status.is_success() {
        let words = String::from_utf8_lossy(&body);
        return Err(io::Error::other(format!("{status}: {words}")).into());
    }
    let listed: Vec<Listed> = serde_json::from_slice(&body)?;
    Ok(listed.into_iter().map(|one| one.id).collect())
}

/// Ends a container, if it runs, and removes it with the volumes that have no name. One that is gone is fine.
pub(super) async fn remove(docker: &Docker, id: &str) -> Result<(), EngineError> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true);
    match docker.remove_container(id, Some(options.build())).await {
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) if has_status(&error, 409) => {
            let removed = tokio::time::timeout(PATIENCE, removed(docker, id)).await;
            removed.unwrap_or(Err(error))
        }
        removed => removed,
    }
}

/// Waits for a removal that is under way: Docker tells this to who asks for another, and a server that was killed may have asked.
async fn removed(docker: &Docker, id: &str) -> Result<(), EngineError> {
    let options = WaitContainerOptionsBuilder::new()
        .condition("removed")
        .build();
    match docker.wait_container(id, Some(options)).next().await {
        Some(Err(error)) if is_missing(&error) => Ok(()),
        // An exit code that is not 0 is an error to the client library.
        Some(Err(EngineError::DockerContainerWaitError { .. })) => Ok(()),
        Some(Err(error)) => Err(error),
        Some(Ok(_)) | None => Ok(()),
    }
}
