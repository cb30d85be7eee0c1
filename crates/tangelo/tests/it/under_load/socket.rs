//! A WebSocket client for short texts (RFC 6455 §5): one frame each, masked as a client must.

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const MASK: [u8; 4] = [1, 2, 3, 4];
const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// An open connection.
pub(crate) struct Socket(TcpStream);

/// Opens `path` below `base`.
pub(crate) async fn open(base: &str, path: &str) -> Result<Socket> {
    let authority = base.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(authority).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
    Ok(Socket(stream))
}

impl Socket {
    /// Sends `text`, and gives back what comes.
    pub(crate) async fn say(&mut self, text: &str) -> Result<String> {
        self.send(TEXT, text).await?;
        self.hear().await
    }

    /// The next short text that comes.
    pub(crate) async fn hear(&mut self) -> Result<String> {
        let head = [self.0.read_u8().await?, self.0.read_u8().await?];
        ensure!(head[0] == 0x80 | TEXT, "no text frame: {head:?}");
        let mut answer = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut answer).await?;
        Ok(String::from_utf8(answer)?)
    }

    /// Says goodbye, and waits until the other end has closed.
    pub(crate) async fn close(mut self) -> Result<()> {
        self.send(CLOSE, "").await?;
        self.0.read_to_end(&mut Vec::new()).await?;
        Ok(())
    }

    async fn send(&mut self, kind: u8, text: &str) -> Result<()> {
        let mut frame = vec![0x80 | kind, 0x80 | u8::try_from(text.len())?];
        frame.extend(MASK);
        let masked = text.bytes().zip(MASK.iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        self.0.write_all(&frame).await?;
        Ok(())
    }
}
