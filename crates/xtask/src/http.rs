//! A small HTTP/1.1 client: enough to be a user of the gateway. One request at a time on a kept connection.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// Longest answer to a request; a demonstration has no longer ones.
const LONGEST_BODY: usize = 16 << 20;
const LONGEST_HEAD: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that is made when it is first needed.
pub(crate) struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

/// What to ask.
#[derive(Clone, Default)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: Vec<(&'a str, String)>,
    pub(crate) body: String,
}

/// What was answered.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) took: Duration,
}

impl<'a> Request<'a> {
    /// A GET of `path`.
    pub(crate) fn get(path: &'a str) -> Self {
        Self {
            method: "GET",
            path,
            ..Self::default()
        }
    }

    /// A POST of JSON to `path`.
    pub(crate) fn post(path: &'a str, body: &Value) -> Self {
        Self {
            method: "POST",
            path,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string(),
        }
    }

    /// The same with one more header.
    pub(crate) fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Response {
    /// The body as JSON; `null` when it is not.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The first header of this lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

impl Client {
    /// A client of the server at `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connection: None,
        }
    }

    /// Sends and waits for the whole answer.
    ///
    /// # Errors
    /// When there is no answer. Nothing is sent twice, since it might be done twice.
    pub(crate) fn send(&mut self, request: &Request<'_>) -> anyhow::Result<Response> {
        let start = Instant::now();
        let mut connection = match self.connection.take().filter(is_open) {
            Some(kept) => kept,
            None => BufReader::new(self.connect()?),
        };
        let what = || format!("{} {}", request.method, request.path);
        write(connection.get_mut(), self.address, request).with_context(what)?;
        let (mut response, kept) = read(&mut connection, request.method).with_context(what)?;
        if kept {
            self.connection = Some(connection);
        }
        response.took = start.elapsed();
        Ok(response)
    }

    /// Asks for an upgrade to WebSocket and returns the first text that the server sends.
    ///
    /// # Errors
    /// When the server does not switch protocols or sends something else.
    pub(crate) fn first_websocket_text(&self, path: &str) -> anyhow::Result<String> {
        let mut connection = BufReader::new(self.connect()?);
        let request = Request::get(path)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        write(connection.get_mut(), self.address, &request)?;
        let (status, headers) = read_head(&mut connection)?;
        ensure!(status == 101, "answered {status} instead of 101");
        let proof = headers
            .iter()
            .find(|(name, _)| name == "sec-websocket-accept");
        // RFC 6455, section 1.3: the answer to exactly this key.
        let expected = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        ensure!(
            proof.is_some_and(|(_, v)| v == expected),
            "the handshake is wrong"
        );
        let mut head = [0; 2];
        connection.read_exact(&mut head)?;
        ensure!(
            head[0] == 0x81 && head[1] < 126,
            "not a short text frame: {head:?}"
        );
        let mut text = vec![0; usize::from(head[1])];
        connection.read_exact(&mut text)?;
        Ok(String::from_utf8(text)?)
    }

    fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)
            .with_context(|| format!("nothing listens at {}", self.address))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

/// Whether a kept connection was not closed by the server meanwhile.
fn is_open(connection: &BufReader<TcpStream>) -> bool {
    let stream = connection.get_ref();
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let quiet = matches!(
        stream.peek(&mut [0]),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock
    );
    quiet && stream.set_nonblocking(false).is_ok()
}

fn write(stream: &mut TcpStream, address: SocketAddr, request: &Request<'_>) -> anyhow::Result<()> {
    let mut text = format!(
        "{} {} HTTP/1.1\r\nhost: {address}\r\n",
        request.method, request.path
    );
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !request.body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", request.body.len()));
    }
    text.push_str("\r\n");
    text.push_str(&request.body);
    Ok(stream.write_all(text.as_bytes())?)
}

/// The answer, and whether the connection can be kept.
fn read(connection: &mut impl BufRead, method: &str) -> anyhow::Result<(Response, bool)> {
    let (status, headers) = read_head(connection)?;
    let value = |name: &str| {
        headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    };
    let length = value("content-length")
        .map(str::parse::<usize>)
        .transpose()?;
    let chunked = value("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
    let closing = value("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
    let none = method == "HEAD" || status == 204 || status == 304;
    let mut body = Vec::new();
    match length {
        _ if none => {}
        _ if chunked => read_chunks(connection, &mut body)?,
        Some(length) => {
            ensure!(length <= LONGEST_BODY, "a body of {length} bytes");
            body.resize(length, 0);
            connection.read_exact(&mut body)?;
        }
        None => {
            connection
                .take(LONGEST_BODY as u64)
                .read_to_end(&mut body)?;
        }
    }
    let kept = !closing && (none || chunked || length.is_some());
    let response = Response {
        status,
        headers,
        body,
        took: Duration::ZERO,
    };
    Ok((response, kept))
}

type Head = (u16, Vec<(String, String)>);

fn read_head(connection: &mut impl BufRead) -> anyhow::Result<Head> {
    let mut head = connection.take(LONGEST_HEAD as u64);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.with_context(|| format!("not an HTTP answer: {line:?}"))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            bail!("the connection ended within the head");
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok((status, headers));
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// RFC 9112, section 7.1, without trailers.
fn read_chunks(connection: &mut impl BufRead, body: &mut Vec<u8>) -> anyhow::Result<()> {
    loop {
        let mut line = String::new();
        connection.take(1024).read_line(&mut line)?;
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).with_context(|| format!("chunk {line:?}"))?;
        let start = body.len();
        ensure!(
            start + size <= LONGEST_BODY,
            "a body of more than {LONGEST_BODY} bytes"
        );
        body.resize(start + size, 0);
        connection.read_exact(&mut body[start..])?;
        connection.take(1024).read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, expected: (u16, &str, bool)) {
        let (response, kept) = read(&mut answer.as_bytes(), "GET").expect("an answer");
        let body = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!((response.status, body.as_str(), kept), expected);
    }

    #[test]
    fn bodies_end_where_the_head_says() {
        check(
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi and more",
            (200, "hi", true),
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n",
            (200, "hi!", true),
        );
        check(
            "HTTP/1.1 503 No\r\nConnection: close\r\n\r\nall of it",
            (503, "all of it", false),
        );
        check("HTTP/1.1 204 No Content\r\n\r\n", (204, "", true));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        assert!(read(&mut &b"hello\r\n\r\n"[..], "GET").is_err());
        assert!(
            read(
                &mut &b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"[..],
                "GET"
            )
            .is_err()
        );
    }
}
