//! A client of the control API over the Unix socket in the data folder.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use model::{Code, Error, code};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use crate::failure::{Coded, failure};

/// A connection's worth of requests: each opens its own, which over a Unix socket costs microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the server whose data folder is `data`.
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            socket: socket(data),
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        self.json(Method::POST, path, serde_json::to_vec(body)?.into())
            .await
    }

    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        self.json(Method::PATCH, path, serde_json::to_vec(body)?.into())
            .await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json(Method::DELETE, path, Bytes::new()).await
    }

    pub(crate) async fn put(&self, path: &str, body: Bytes) -> Result<()> {
        let _: serde_json::Value = self.json(Method::PUT, path, body).await?;
        Ok(())
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T> {
        let response = self.send(method, path, body).await?;
        let bytes = whole(response).await?;
        serde_json::from_slice(&bytes).coded(code::ANOTHER_SERVER, || {
            format!("the server's answer to {path} is not what this tangelo expects: same version?")
        })
    }

    /// Sends a request and gives back a good answer; a problem document becomes the error it describes.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<http::Response<Incoming>> {
        self.send_as(method, path, "application/json", body).await
    }

    /// The same with another media type.
    pub(crate) async fn send_as(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Bytes,
    ) -> Result<http::Response<Incoming>> {
        let kind = (http::header::CONTENT_TYPE, media_type.to_owned());
        self.send_with(method, path, [kind], body).await
    }

    /// The same with these headers.
    pub(crate) async fn send_with(
        &self,
        method: Method,
        path: &str,
        headers: impl IntoIterator<Item = (http::HeaderName, String)>,
        body: Bytes,
    ) -> Result<http::Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            let folder = self.socket.parent().unwrap_or_else(|| Path::new("."));
            let message = format!(
                "no server answers at {} ({error}): start one with `tangelo serve --data {}`, or give --data with the \
                 folder of the one that runs",
                self.socket.display(),
                folder.display()
            );
            failure(code::NO_SERVER, message)
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .coded(code::NO_SERVER, || {
                "the server closed the connection".to_owned()
            })?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "tangelo");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(body))
            .coded(code::BAD_ARGUMENT, || format!("{path} cannot be asked for"))?;
        let response = sender
            .send_request(request)
            .await
            .coded(code::NO_SERVER, || {
                "the server closed the connection".to_owned()
            })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let after = response.headers().get(http::header::RETRY_AFTER);
        let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
        let bytes = whole(response).await?;
        let Some(mut problem) = problem(&bytes) else {
            fail!(
                ANOTHER_SERVER,
                "the server answered {status} to {path}: same version?"
            )
        };
        problem.retry_after = after.map(Duration::from_secs);
        Err(problem.into())
    }
}

async fn whole(response: http::Response<Incoming>) -> Result<Bytes> {
    let collected = response.into_body().collect().await;
    let collected = collected.coded(code::NO_SERVER, || {
        "the server's answer broke off".to_owned()
    })?;
    Ok(collected.to_bytes())
}

/// What a problem document says.
fn problem(bytes: &[u8]) -> Option<Error> {
    let problem: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let code = Code::deserialize(problem.get("code")?).ok()?;
    Some(Error::new(code, problem.get("detail")?.as_str()?))
}

/// A text as one segment of a path: what is unreserved in it stays (RFC 3986 §2.3).
pub(crate) fn segment(text: &str) -> PercentEncode<'_> {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(text, KEPT)
}

/// A key such as `app/workload/name` as the segments of a path.
pub(crate) fn segments(key: &str) -> PercentEncode<'_> {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-');
    utf8_percent_encode(key, KEPT)
}

/// `?a=1&b=x%20y` of what is there.
pub(crate) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs.iter().filter_map(|(n, v)| Some((n, v.as_ref()?))) {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
    text
}
/// The control socket of the server whose data folder is `data`, as seen from here where that is shorter: addresses of
/// sockets are short.
pub(crate) fn socket(data: &Path) -> PathBuf {
    let path = data.join(api::SOCKET);
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    relative.unwrap_or(path)
}
