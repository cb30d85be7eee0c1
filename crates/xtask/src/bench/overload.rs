//! What a refusal costs: a service holds as many requests as it may, and all that come beyond them are refused with 503
//! and when to come back. CPU of the server for each.

use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{Bench, Figure, load, median, wasm};
use crate::http::{Client, Request};

/// Requests that the service may serve at a time.
const SERVED: usize = 8;
/// What it holds at most: those, and a queue.
const HELD: usize = SERVED + 64;
const FULL_WITHIN: Duration = Duration::from_secs(10);

/// Measures it.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let address = silent.local_addr()?;
    // Takes every connection and never answers.
    thread::spawn(move || silent.incoming().map_while(Result::ok).collect::<Vec<_>>());
    let manifest = format!(
        "app: full\nworkloads:\n  up:\n    as: service\n    run: {{external: {{url: \"http://{address}\"}}}}\n    \
         scale: {{concurrency: {SERVED}}}\n    timeout: 10m\ngateway:\n  routes:\n    - {{path: /*, to: up}}\n"
    );
    let server = wasm::deployed(bench, Path::new(""), &manifest, &[])?;
    let held = hold(server.gateway()?)?;
    let mut client = Client::new(server.gateway()?);
    let begun = Instant::now();
    let refused = loop {
        let answer = client.send(&Request::get("/"))?;
        if answer.status == 503 {
            break answer;
        }
        ensure!(
            begun.elapsed() < FULL_WITHIN,
            "it is never full: {}",
            answer.status
        );
    };
    let again = refused.header("retry-after").context("when to come back")?;
    ensure!(
        again.parse::<u32>().is_ok(),
        "`Retry-After: {again}` is no whole seconds"
    );
    let url = format!("{}/", server.addresses.gateway);
    let mut micros = Vec::new();
    for _ in 0..bench.options.rounds {
        let round = load::refused(&url, server.pid(), bench.options.seconds)?;
        micros.push(1e6 / round.per_cpu_second);
    }
    drop(held);
    server.stop()?;
    let _ = fs::remove_dir_all(bench.folder.join("app"));
    Ok(vec![bench.alone(
        "overload",
        "µs of CPU for each refused request",
        median(&mut micros),
    )])
}

/// As many requests as the service takes.
fn hold(gateway: std::net::SocketAddr) -> anyhow::Result<Vec<TcpStream>> {
    (0..HELD)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway)?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: full\r\n\r\n")?;
            Ok(stream)
        })
        .collect()
}
