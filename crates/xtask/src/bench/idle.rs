//! Connections that do little: idle WebSockets, idle kept HTTP connections in clear text and over TLS, and clients that
//! send a body a byte at a time. What each takes of the server's memory, and how soon normal requests are answered beside
//! them, against HAProxy before the same services.

mod peers;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail, ensure};

use super::{
    Bench, Figure, memory,
    open_loop::{self, Load},
    wasm,
};
use crate::shell;

/// Idle WebSockets, where the machine allows as many files.
const SOCKETS: usize = 10_000;
const SLOW: usize = 1_000;
/// Connections whose TLS a Python client holds: it holds fewer.
const OVER_TLS: usize = 2_000;
/// Descriptors of a server for each WebSocket, and what it needs beside them.
const FILES: usize = 2 * SOCKETS + 2 * SLOW + 2_000;
/// Connections beside those.
const OTHERS: usize = 300;
/// Normal requests each second.
const NORMAL: f64 = 1_000.0;
/// How long memory is given to settle.
const SETTLES: Duration = Duration::from_secs(2);
/// Between two bytes of a slow client: sooner than any silence is cut off.
const DRIP: Duration = Duration::from_secs(3);

/// What one side showed.
struct Side {
    name: String,
    /// KiB of memory for each idle WebSocket, each idle kept connection, each slow client.
    socket: f64,
    kept: f64,
    slow: f64,
    /// Milliseconds within which 99 of 100 normal requests were answered, alone and beside all of these.
    alone: f64,
    beside: f64,
}

/// A server under test.
struct Target {
    name: String,
    address: SocketAddr,
    pid: u32,
}

/// Measures both sides.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let sockets = allowed_sockets();
    let upstream = peers::upstream()?;
    let manifest = peers::manifest(upstream);
    let server = wasm::deployed(bench, std::path::Path::new(""), &manifest, &[])?;
    let ours = side(
        bench,
        &Target {
            name: "tangelo".to_owned(),
            address: server.gateway()?,
            pid: server.pid(),
        },
        sockets,
    )?;
    server.stop()?;
    let (name, peer) = peers::haproxy(bench, upstream, sockets + SLOW + OTHERS)?;
    let target = Target {
        name,
        address: peer.address,
        pid: peer.pid(),
    };
    let theirs = side(bench, &target, sockets)?;
    drop(peer);
    let mut figures = compared(bench, sockets, &ours, &theirs);
    figures.extend(over_tls(bench, upstream)?);
    Ok(figures)
}

fn compared(bench: &Bench<'_>, sockets: usize, ours: &Side, theirs: &Side) -> Vec<Figure> {
    let less = |metric: String, ours, peer| bench.less("idle", &metric, &theirs.name, ours, peer);
    vec![
        less(
            format!("KiB for each of {sockets} idle WebSockets"),
            ours.socket,
            theirs.socket,
        ),
        less(
            format!("KiB for each of {sockets} idle kept connections"),
            ours.kept,
            theirs.kept,
        ),
        less(
            format!("KiB for each of {SLOW} slow clients"),
            ours.slow,
            theirs.slow,
        ),
        less(
            "ms within which 99 of 100 normal requests are answered".to_owned(),
            ours.alone,
            theirs.alone,
        ),
        less(
            "the same beside idle WebSockets and slow clients".to_owned(),
            ours.beside,
            theirs.beside,
        ),
    ]
}

/// As many as there may be files for; says so when these are fewer.
fn allowed_sockets() -> usize {
    let own = process::id().to_string();
    let wanted = format!("--nofile={FILES}:{FILES}");
    let raised = shell::works(std::process::Command::new("prlimit").args(["--pid", &own, &wanted]));
    if raised {
        return SOCKETS;
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let most: usize = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(1024);
    let sockets = SOCKETS.min(most.saturating_sub(4_000).max(400) / 2);
    eprintln!("this machine allows {most} open files: {sockets} WebSockets instead of {SOCKETS}");
    sockets
}

fn side(bench: &Bench<'_>, target: &Target, sockets: usize) -> anyhow::Result<Side> {
    let normal = Load {
        address: target.address,
        path: "/normal",
        rate: NORMAL,
        time: Duration::from_secs(bench.options.seconds),
        clients: 128,
    };
    let alone = open_loop::put(&normal)?.within(0.99);
    let (held, socket) = grown(target, sockets, || open_sockets(target.address, sockets))?;
    let (dripping, slow) = grown(target, SLOW, || Dripping::start(target.address))?;
    let beside = open_loop::put(&normal)?.within(0.99);
    dripping.stop()?;
    check_all(held)?;
    let (kept, each) = grown(target, sockets, || keep(target.address, sockets))?;
    drop(kept);
    Ok(Side {
        name: target.name.clone(),
        socket,
        kept: each,
        slow,
        alone,
        beside,
    })
}

/// What `work` makes, and by how many KiB it makes the target grow for each of `count`.
fn grown<T>(
    target: &Target,
    count: usize,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, f64)> {
    let before = memory::resident_mib(target.pid)?;
    let made = work().with_context(|| format!("through {}", target.name))?;
    thread::sleep(SETTLES);
    let grown = memory::resident_mib(target.pid)? - before;
    #[allow(clippy::cast_precision_loss, reason = "thousands")]
    Ok((made, grown * 1024.0 / count as f64))
}

/// Reads an answer's head.
fn head(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(stream.read(&mut byte)? == 1, "closed within a head");
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// WebSockets on which nothing is said.
fn open_sockets(address: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let open = |_| {
        let mut stream = connect(address)?;
        stream.write_all(
            b"GET /socket HTTP/1.1\r\nhost: idle\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
              sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let head = head(&mut stream)?;
        ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
        Ok(stream)
    };
    (0..count).map(open).collect()
}

/// Every one of them still passes on what is said.
fn check_all(sockets: Vec<TcpStream>) -> anyhow::Result<()> {
    for mut stream in sockets {
        stream.write_all(b"!")?;
        let mut echo = [0];
        stream
            .read_exact(&mut echo)
            .context("an idle WebSocket was closed")?;
        ensure!(&echo == b"!", "an echo is {echo:?}");
    }
    Ok(())
}

/// Connections that had one answer.
fn keep(address: SocketAddr, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let open = |_| {
        let mut stream = connect(address)?;
        stream.write_all(b"GET /normal HTTP/1.1\r\nhost: idle\r\n\r\n")?;
        let head = head(&mut stream)?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
        stream.read_exact(&mut [0; 2])?;
        Ok(stream)
    };
    (0..count).map(open).collect()
}

/// Clients that send bodies a byte at a time.
struct Dripping {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Dripping {
    fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let open = |_| {
            let mut stream = connect(address)?;
            stream.write_all(
                b"POST /slow HTTP/1.1\r\nhost: idle\r\ncontent-length: 100000\r\n\r\nx",
            )?;
            Ok(stream)
        };
        let mut streams = (0..SLOW).map(open).collect::<anyhow::Result<Vec<_>>>()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopping);
        let thread = thread::spawn(move || {
            while !told.load(Relaxed) {
                let begun = Instant::now();
                for stream in &mut streams {
                    stream.write_all(b"x").context("a slow client was closed")?;
                }
                while begun.elapsed() < DRIP && !told.load(Relaxed) {
                    thread::sleep(Duration::from_millis(50));
                }
            }
            Ok(())
        });
        Ok(Self { stopping, thread })
    }

    fn stop(self) -> anyhow::Result<()> {
        self.stopping.store(true, Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("a slow client panicked"))?
    }
}

/// Idle connections over TLS, held by Python, since nothing here speaks it.
fn over_tls(bench: &Bench<'_>, upstream: SocketAddr) -> anyhow::Result<Vec<Figure>> {
    let folder = bench.folder.join("certificates");
    fs::create_dir_all(&folder)?;
    if let Err(error) = peers::certificate(&folder) {
        eprintln!("SKIPPED: memory of connections over TLS: no certificate ({error:#})");
        return Ok(Vec::new());
    }
    let tls = super::process::free_address()?;
    let path = folder.to_str().context("a path in UTF-8")?;
    let flags = ["--tls", &tls.to_string(), "--tls-folder", path];
    let manifest = peers::manifest(upstream);
    let server = wasm::deployed(bench, std::path::Path::new(""), &manifest, &flags)?;
    let ours = Target {
        name: "tangelo".to_owned(),
        address: tls,
        pid: server.pid(),
    };
    let (client, our_kib) = grown(&ours, OVER_TLS, || peers::tls_client(bench, tls, OVER_TLS))?;
    drop(client);
    server.stop()?;
    let (name, peer) = peers::haproxy_over_tls(bench, upstream, &folder, OVER_TLS + OTHERS)?;
    let theirs = Target {
        name,
        address: peer.address,
        pid: peer.pid(),
    };
    let address = peer.address;
    let (client, their_kib) = grown(&theirs, OVER_TLS, || {
        peers::tls_client(bench, address, OVER_TLS)
    })?;
    drop(client);
    if !our_kib.is_finite() || !their_kib.is_finite() {
        bail!("no figures of memory over TLS");
    }
    let metric = format!("KiB for each of {OVER_TLS} idle kept connections over TLS");
    Ok(vec![bench.less(
        "idle",
        &metric,
        &theirs.name,
        our_kib,
        their_kib,
    )])
}
