//! Redis Streams, with an append-only file that is synced before the answer (`appendfsync always`).

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use anyhow::Context;

use super::{Broker, Publisher, Wire};
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
    let wire = Wire::new(TcpStream::connect(address)?)?;
    let version = shell::output(process::clean("redis-server").arg("--version"))?;
    let version = version
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="));
    Ok(Broker {
        name: format!("Redis Streams {}", version.unwrap_or("")),
        peer,
        publisher: Box::new(Redis(wire)),
    })
}

/// RESP, as much of it as `XADD` needs.
struct Redis(Wire);

impl Publisher for Redis {
    fn wire(&mut self) -> &mut Wire {
        &mut self.0
    }

    fn publish(&mut self, data: &[u8]) -> anyhow::Result<()> {
        let out = &mut self.0.out;
        out.extend_from_slice(b"*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$4\r\ndata\r\n");
        write!(out, "${}\r\n", data.len())?;
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// One answer: the id of an entry.
    fn hear(&mut self) -> anyhow::Result<usize> {
        let line = self.0.line()?;
        let length = line.strip_prefix('$');
        let length = length.with_context(|| format!("Redis says: {line}"))?;
        let mut id = vec![0; length.parse::<usize>()? + 2];
        self.0.stream.read_exact(&mut id)?;
        Ok(1)
    }
}
