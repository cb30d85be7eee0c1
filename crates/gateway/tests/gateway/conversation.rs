//! A client that writes bytes and reads answers, so that a test decides what is on the wire.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// No answer takes longer, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection.
pub(crate) struct Conversation {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer, its body decoded.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    /// A header's value, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The error code of a problem document.
    pub(crate) fn code(&self) -> &str {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let at = self.body.find("\"TG").expect("a problem has a code") + 1;
        &self.body[at..at + 6]
    }
}

impl Conversation {
    pub(crate) async fn with(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.expect("it listens"),
            read: Vec::new(),
        }
    }

    /// Writes `text`, with a line break as CR LF.
    pub(crate) async fn write(&mut self, text: &str) {
        let wire = text.replace('\n', "\r\n");
        self.stream
            .write_all(wire.as_bytes())
            .await
            .expect("it is open");
    }

    /// Closes its half: nothing more is sent.
    pub(crate) async fn end(&mut self) {
        self.stream.shutdown().await.expect("it is open");
    }

    /// Writes bytes as they are; `false` when the other side has closed.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Sends a request for `target` with these header lines, and reads its answer.
    pub(crate) async fn ask(&mut self, method: &str, target: &str, headers: &[&str]) -> Reply {
        self.send(method, target, headers, "").await;
        self.answer_to(method).await
    }

    /// Sends a request.
    pub(crate) async fn send(&mut self, method: &str, target: &str, headers: &[&str], body: &str) {
        let mut text = format!("{method} {target} HTTP/1.1\n");
        if !headers
            .iter()
            .any(|line| line.to_ascii_lowercase().starts_with("host:"))
        {
            text.push_str("Host: shop.test\n");
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\n", body.len()));
        }
        headers
            .iter()
            .for_each(|line| text.push_str(&format!("{line}\n")));
        self.write(&format!("{text}\n{body}")).await;
    }

    /// Reads an answer to a request that was not HEAD.
    pub(crate) async fn answer(&mut self) -> Reply {
        self.answer_to("GET").await
    }

    async fn answer_to(&mut self, method: &str) -> Reply {
        let head = self.head().await;
        let status: u16 = head[9..12].parse().expect("a status line");
        let mut reply = Reply {
            status,
            head,
            body: String::new(),
        };
        if method == "HEAD" || matches!(status, 100..200 | 204 | 304) {
            return reply;
        }
        let bytes = if reply.header("transfer-encoding") == Some("chunked") {
            self.chunks().await
        } else {
            let length = reply
                .header("content-length")
                .expect("a length")
                .parse()
                .expect("a number");
            self.exactly(length).await
        };
        reply.body = String::from_utf8(bytes).expect("is UTF-8");
        reply
    }

    /// Reads the head of an answer.
    pub(crate) async fn head(&mut self) -> String {
        let head = self.until(b"\r\n\r\n").await;
        String::from_utf8(head).expect("a head is ASCII")
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let chunk = self.chunk().await;
            if chunk.is_empty() {
                return all;
            }
            all.extend(chunk);
        }
    }

    /// Reads one chunk; empty is the last.
    pub(crate) async fn chunk(&mut self) -> Vec<u8> {
        let line = String::from_utf8(self.until(b"\r\n").await).expect("is ASCII");
        let size = usize::from_str_radix(line.trim(), 16).expect("a chunk's size");
        let mut chunk = self.exactly(size + 2).await;
        chunk.truncate(size);
        chunk
    }

    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(
                self.more().await,
                "it closed after {:?}",
                String::from_utf8_lossy(&self.read)
            );
        }
        self.read.drain(..count).collect()
    }

    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self
                .read
                .windows(end.len())
                .position(|window| window == end)
            {
                return self.read.drain(..at + end.len()).collect();
            }
            assert!(
                self.more().await,
                "it closed after {:?}",
                String::from_utf8_lossy(&self.read)
            );
        }
    }

    /// Everything that comes until the other side closes.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// Whether the other side closes without another byte.
    pub(crate) async fn closes(&mut self) -> bool {
        self.read.is_empty() && !self.more().await
    }

    /// Whether the other side has closed by now or does `within` this time; what else comes is read.
    pub(crate) async fn closes_within(&mut self, within: Duration) -> bool {
        let closed = timeout(within, self.rest()).await;
        closed.is_ok()
    }

    async fn more(&mut self) -> bool {
        let mut bytes = [0; 8192];
        let read = timeout(PATIENCE, self.stream.read(&mut bytes))
            .await
            .expect("an answer in time");
        // A reset is a way to close, too.
        let count = read.unwrap_or(0);
        self.read.extend_from_slice(&bytes[..count]);
        count > 0
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[&str],
) -> Reply {
    Conversation::with(address)
        .await
        .ask(method, target, headers)
        .await
}

/// One request with a body on a connection of its own.
pub(crate) async fn post(address: SocketAddr, target: &str, headers: &[&str], body: &str) -> Reply {
    let mut conversation = Conversation::with(address).await;
    conversation.send("POST", target, headers, body).await;
    conversation.answer().await
}
