//! Redis Streams, with an append-only file that is synced before the answer (`appendfsync always`).

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use anyhow::{Context, ensure};

use super::{Broker, Publisher};
use crate::{
    bench::{
        Bench,
        process::{self, Peer},
    },
    shell,
};

/// Starts a server and connects.
pub(super) fn start(bench: &Bench<'_>) -> anyhow::Result<Broker> {
    let address = process::free_address()?;
    let folder = bench.folder.join("redis");
    fs::create_dir_all(&folder)?;
    let port = address.port().to_string();
    let mut command = process::clean("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--port", &port, "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(&folder);
    let peer = Peer::start(&mut command, address)
        .context("redis-server is needed: apt install redis-server")?;
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let version = shell::output(process::clean("redis-server").arg("--version"))?;
    let version = version
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="));
    Ok(Broker {
        name: format!("Redis Streams {}", version.unwrap_or("")),
        peer,
        publisher: Box::new(Redis {
            stream: BufReader::new(stream),
            out: Vec::new(),
        }),
    })
}

/// RESP, as much of it as `XADD` needs.
struct Redis {
    stream: BufReader<TcpStream>,
    out: Vec<u8>,
}

impl Redis {
    /// One answer: the id of an entry.
    fn hear(&mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        ensure!(
            self.stream.read_line(&mut line)? > 0,
            "Redis closed the connection"
        );
        let length = line.trim_end().strip_prefix('$');
        let length: usize = length
            .with_context(|| format!("Redis says: {line}"))?
            .parse()?;
        let mut id = vec![0; length + 2];
        Ok(self.stream.read_exact(&mut id)?)
    }
}

impl Publisher for Redis {
    fn publish(&mut self, data: &[u8]) -> anyhow::Result<()> {
        self.out
            .extend_from_slice(b"*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$4\r\ndata\r\n");
        write!(self.out, "${}\r\n", data.len())?;
        self.out.extend_from_slice(data);
        self.out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn acknowledged(&mut self) -> anyhow::Result<usize> {
        self.stream.get_mut().write_all(&self.out)?;
        self.out.clear();
        let mut count = 0;
        while count == 0 || !self.stream.buffer().is_empty() {
            self.hear()?;
            count += 1;
        }
        Ok(count)
    }
}
