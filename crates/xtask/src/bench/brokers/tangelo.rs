//! Tangelo over one connection that stays: a WebSocket (RFC 6455), each message an event, each answered by itself.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use anyhow::{Context, ensure};

use super::{Publisher, Wire};

/// The first byte of a text that is whole.
const TEXT: u8 = 0x81;
/// What clients do to their bytes is done with zeros here: the server undoes it all the same.
const MASK: [u8; 4] = [0; 4];

/// A connection.
pub(super) struct Tangelo {
    wire: Wire,
    /// What ids begin with, and how many there are: the same id again is accepted once.
    run: String,
    number: u64,
}

impl Tangelo {
    /// Connects to the gateway at `url`, for events whose ids begin with `run`.
    pub(super) fn connect(url: &str, run: String) -> anyhow::Result<Self> {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let stream = TcpStream::connect(address).with_context(|| format!("no gateway at {url}"))?;
        let mut wire = Wire::new(stream)?;
        write!(
            wire.out,
            "GET /events HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        wire.flush()?;
        let line = wire.line()?;
        ensure!(line.contains(" 101 "), "no WebSocket: {line}");
        while !wire.line()?.is_empty() {}
        Ok(Self {
            wire,
            run,
            number: 0,
        })
    }
}

impl Publisher for Tangelo {
    fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    fn publish(&mut self, data: &[u8]) -> anyhow::Result<()> {
        self.number += 1;
        let data = std::str::from_utf8(data)?;
        let event = format!(
            r#"{{"specversion":"1.0","id":"{}-{}","source":"/bench","type":"bench.made","data":"{data}"}}"#,
            self.run, self.number
        );
        let out = &mut self.wire.out;
        out.extend_from_slice(&[TEXT, 0x80 | 126]);
        let length = u16::try_from(event.len())?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&MASK);
        out.extend_from_slice(event.as_bytes());
        Ok(())
    }

    fn hear(&mut self) -> anyhow::Result<usize> {
        let mut head = [0; 2];
        self.wire.stream.read_exact(&mut head)?;
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                self.wire.stream.read_exact(&mut long)?;
                u16::from_be_bytes(long)
            }
            short => u16::from(short),
        };
        let mut body = vec![0; usize::from(length)];
        self.wire.stream.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body);
        let is_new = head[0] == TEXT && body.contains("\"duplicate\":false");
        ensure!(is_new, "Tangelo refuses: {body}");
        Ok(1)
    }
}
