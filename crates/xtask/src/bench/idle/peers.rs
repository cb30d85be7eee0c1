//! What stands behind and beside the connections of the bench: a service that echoes, HAProxy, a certificate, and a
//! client that speaks TLS.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Stdio},
    thread,
};

use anyhow::{Context, ensure};

use super::super::{
    Bench,
    process::{self, Peer},
    proxy,
};
use crate::shell;

/// Enough for a connection of the service.
const STACK: usize = 64 << 10;

/// The app in front of the service: what stays open has workloads of its own.
pub(super) fn manifest(upstream: SocketAddr) -> String {
    let workload = |name: &str, concurrency: u32| {
        format!(
            "  {name}:\n    as: service\n    run: {{external: {{url: \"http://{upstream}\"}}}}\n    \
             scale: {{concurrency: {concurrency}}}\n    timeout: 10m\n"
        )
    };
    format!(
        "app: idle\nworkloads:\n{}{}{}gateway:\n  routes:\n    - {{path: /socket, to: sockets}}\n    \
         - {{path: /slow, methods: [POST], to: slow}}\n    - {{path: /normal, to: normal}}\n",
        workload("sockets", 10_000),
        workload("slow", 2_000),
        workload("normal", 1_000)
    )
}

/// A service that answers with two bytes, and echoes what comes after an upgrade byte for byte: what is in frames is
/// nobody's business between the two ends.
pub(super) fn upstream() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let served = thread::Builder::new()
                .stack_size(STACK)
                .spawn(move || serve(stream));
            if served.is_err() {
                eprintln!("no thread for a connection of the service");
            }
        }
    });
    Ok(address)
}

fn serve(stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(1024, stream);
    loop {
        let (mut socket, mut length, mut line) = (false, 0, String::new());
        loop {
            line.clear();
            ensure!(stream.read_line(&mut line)? > 0, "closed");
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            socket |= line == "upgrade: websocket";
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        if socket {
            stream.get_mut().write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            )?;
            return echo(stream);
        }
        let mut body = stream.by_ref().take(length);
        std::io::copy(&mut body, &mut std::io::sink())?;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.get_mut().write_all(answer)?;
    }
}

fn echo(mut stream: BufReader<TcpStream>) -> anyhow::Result<()> {
    let mut bytes = [0; 256];
    loop {
        let count = stream.read(&mut bytes)?;
        ensure!(count > 0, "closed");
        stream.get_mut().write_all(&bytes[..count])?;
    }
}

/// HAProxy with one thread and our timeouts, for so many connections: it refuses to start when the machine does not allow
/// it two files for each.
pub(super) fn haproxy(
    bench: &Bench<'_>,
    upstream: SocketAddr,
    connections: usize,
) -> anyhow::Result<(String, Peer)> {
    start(bench, upstream, "", connections)
}

/// The same over TLS, with the certificate in `folder`.
pub(super) fn haproxy_over_tls(
    bench: &Bench<'_>,
    upstream: SocketAddr,
    folder: &Path,
    connections: usize,
) -> anyhow::Result<(String, Peer)> {
    let both = folder.join("haproxy.both");
    let parts = [
        fs::read(folder.join("idle.pem"))?,
        fs::read(folder.join("idle.key"))?,
    ];
    fs::write(&both, parts.concat())?;
    start(
        bench,
        upstream,
        &format!(" ssl crt {}", both.display()),
        connections,
    )
}

fn start(
    bench: &Bench<'_>,
    upstream: SocketAddr,
    bind: &str,
    connections: usize,
) -> anyhow::Result<(String, Peer)> {
    let address = process::free_address()?;
    let configuration = format!(
        "global\n  nbthread 1\n  maxconn {connections}\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 75s\n  \
         timeout server 600s\n  timeout tunnel 600s\n  timeout http-keep-alive 75s\n  http-reuse always\n\
         frontend in\n  bind {address}{bind}\n  default_backend up\nbackend up\n  server one {upstream}\n"
    );
    let file = bench.folder.join("idle.cfg");
    fs::write(&file, configuration)?;
    let mut command = process::clean("haproxy");
    command.stderr(Stdio::null());
    let peer = Peer::start(command.arg("-db").arg("-f").arg(&file), address)?;
    Ok((proxy::version("haproxy", "-v")?, peer))
}

/// A certificate for `localhost`, as `idle.pem` and `idle.key`.
pub(super) fn certificate(folder: &Path) -> anyhow::Result<()> {
    let arguments = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        "idle.key",
        "-out",
        "idle.pem",
    ];
    let mut command = shell::command("openssl", &arguments, folder);
    shell::output(&mut command).map(drop)
}

/// A Python process that holds connections, ended when dropped.
pub(super) struct TlsClient(Child);

/// Holds `count` connections to `address`, each after one answer.
pub(super) fn tls_client(
    bench: &Bench<'_>,
    address: SocketAddr,
    count: usize,
) -> anyhow::Result<TlsClient> {
    let script = bench.folder.join("tls_client.py");
    fs::write(&script, TLS_CLIENT)?;
    let mut command = process::clean("python3");
    command
        .arg(&script)
        .args([
            address.ip().to_string(),
            address.port().to_string(),
            count.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut client = TlsClient(command.spawn()?);
    let output = client.0.stdout.take().context("its output was piped")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(line.trim() == "ready", "the client over TLS said {line:?}");
    Ok(client)
}

impl Drop for TlsClient {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const TLS_CLIENT: &str = r#"
import socket, ssl, sys

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
held = []
for _ in range(count):
    stream = context.wrap_socket(socket.create_connection((host, port)), server_hostname="localhost")
    stream.sendall(b"GET /normal HTTP/1.1\r\nhost: idle\r\n\r\n")
    answer = b""
    while not answer.endswith(b"\r\n\r\nok"):
        more = stream.recv(4096)
        assert more, "closed"
        answer += more
    held.append(stream)
print("ready", flush=True)
sys.stdin.read()
"#;
