//! More than can be served. What a refusal costs: a service holds as many requests as it may, and all that come beyond
//! them are refused with 503 and when to come back. What is still served at three times the capacity of a service, and how
//! soon, beside another workload that is not flooded; how much memory the server takes meanwhile, and how much it may.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::{
    Bench, Figure, load, median, memory,
    open_loop::{self, Load, Outcome},
    wasm,
};
use crate::http::{Client, Request};

/// Requests that the service may serve at a time.
const SERVED: usize = 8;
/// What it holds at most: those, and a queue.
const HELD: usize = SERVED + 64;
/// Requests beyond that, which are refused.
const REFUSED: usize = 8;
const FULL_WITHIN: Duration = Duration::from_secs(10);

/// How long the service takes for each.
const TAKES: Duration = Duration::from_millis(10);
/// Clients: more than have a request under way at any time.
const CLIENTS: usize = 256;
/// Requests each second to the workload that is not flooded.
const BESIDE: f64 = 100.0;

/// Measures all of it.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let mut figures = refusals(bench)?;
    figures.extend(goodput(bench)?);
    Ok(figures)
}

/// A service that takes as long for each request as it should, however many there are: its capacity is what Tangelo
/// lets through to it.
fn service() -> anyhow::Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer_all(stream));
        }
    });
    Ok(address)
}

fn answer_all(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = [0; 4096];
    let mut have = 0;
    loop {
        let read = stream.read(&mut bytes[have..])?;
        if read == 0 {
            return Ok(());
        }
        have += read;
        if bytes[..have].ends_with(b"\r\n\r\n") {
            have = 0;
            thread::sleep(TAKES);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        }
    }
}

/// Its capacity, what it serves at 80 % of that and at three and five times as much, and what others notice.
fn goodput(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let address = service()?;
    let component = wasm::component(bench.workspace, None)?;
    let manifest = format!(
        "app: full\nworkloads:\n  up:\n    as: service\n    run: {{external: {{url: \"http://{address}\"}}}}\n    \
         scale: {{concurrency: {SERVED}}}\n  other: {{as: function, run: {{wasm: {{component: hello.wasm}}}}}}\n\
         gateway:\n  routes:\n    - {{path: /up, to: up}}\n    - {{path: /other, to: other}}\n"
    );
    let server = wasm::deployed(bench, &component, &manifest, &[])?;
    let load = |path, rate, clients| Load {
        address: server.gateway().expect("it said where it listens"),
        path,
        rate,
        time: Duration::from_secs(bench.options.seconds),
        clients,
    };
    open_loop::put(&load("/other", BESIDE, 8))?;
    let capacity = open_loop::put(&load("/up", f64::INFINITY, SERVED))?.per_second();
    let most = open_loop::put(&load("/up", 0.8 * capacity, CLIENTS))?;
    let alone = open_loop::put(&load("/other", BESIDE, 64))?;
    let mut at_three = flooded(
        &load("/up", 3.0 * capacity, CLIENTS),
        &load("/other", BESIDE, 64),
    )?;
    let flood = &mut at_three.0;
    ensure!(flood.refused > 0, "three times the capacity was served");
    let five = open_loop::put(&load("/up", 5.0 * capacity, CLIENTS))?;
    ensure!(five.refused > 0, "five times the capacity was served");
    let peak = memory::peak_mib(server.pid())?;
    let bound = server.tangelo(&["config"])?["memory"]["bytes"].as_f64();
    let bound = bound.context("a bound")? / 1_048_576.0;
    server.stop()?;
    ensure!(
        peak < bound,
        "{peak} MiB resident, and {bound} MiB are said to be the most"
    );
    let (flood, beside) = at_three;
    let alone_is = |metric: &str, value| bench.alone("overload", metric, value);
    let itself = "at 80 % of capacity";
    Ok(vec![
        alone_is("capacity of a service, requests per second", capacity),
        bench.more(
            "overload",
            "served per second at three times the capacity",
            "capacity",
            flood.per_second(),
            capacity,
        ),
        bench.more(
            "overload",
            "served per second at five times the capacity",
            "capacity",
            five.per_second(),
            capacity,
        ),
        bench.less(
            "overload",
            "ms within which 99 of 100 admitted are answered, at three times",
            itself,
            flood.within(0.99),
            most.within(0.99),
        ),
        bench.less(
            "overload",
            "ms within which half of those admitted are answered, at three times",
            itself,
            flood.within(0.5),
            most.within(0.5),
        ),
        bench.less(
            "overload",
            "ms within which 99 of 100 of another workload are answered meanwhile",
            "without the flood",
            beside.within(0.99),
            alone.within(0.99),
        ),
        alone_is("MiB resident at most, after five times the capacity", peak),
        alone_is("MiB that follow from the limits (`tangelo config`)", bound),
    ])
}

/// One load, and another beside it.
fn flooded(flood: &Load, other: &Load) -> anyhow::Result<(Outcome, Outcome)> {
    let other = other.clone();
    let beside = thread::spawn(move || open_loop::put(&other));
    let flood = open_loop::put(flood)?;
    let beside = beside
        .join()
        .map_err(|_| anyhow::anyhow!("a client panicked"))??;
    ensure!(beside.refused == 0, "who is not flooded was refused");
    Ok((flood, beside))
}

/// What a refusal costs.
fn refusals(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
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
    let refused = Client::new(server.gateway()?).send(&Request::get("/"))?;
    ensure!(
        refused.status == 503,
        "it is never full: {}",
        refused.status
    );
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

/// As many requests as the service takes, and a few that were refused since it was full.
fn hold(gateway: std::net::SocketAddr) -> anyhow::Result<Vec<TcpStream>> {
    let ask = |_| {
        let mut stream = TcpStream::connect(gateway)?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: full\r\n\r\n")?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    let held = (0..HELD + REFUSED)
        .map(ask)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let answered = |stream: &&TcpStream| stream.peek(&mut [0]).is_ok();
    let begun = Instant::now();
    while held.iter().filter(answered).count() < REFUSED {
        ensure!(begun.elapsed() < FULL_WITHIN, "it is never full");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(held)
}
