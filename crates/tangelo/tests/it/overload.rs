//! More load than can be served: what is refused is told when to come back, memory stays under the bound that
//! `tangelo config` prints, and who is not flooded does not notice.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use testkit::{Answer, Client, Server, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

const TANGELO: &str = env!("CARGO_BIN_EXE_tangelo");

/// Limits that a test can reach. 56 requests from outside may be under way.
const LIMITS: [&str; 10] = [
    "--connections",
    "400",
    "--requests",
    "64",
    "--wasm-guests",
    "16",
    "--wasm-memory",
    "48MiB",
    "--body-buffers",
    "18MiB",
];

/// Clients: five times as many as may have a request under way.
const CLIENTS: usize = 5 * 56;
/// Requests of each.
const REQUESTS: usize = 6;

/// The counter of what was refused.
const REFUSED: &str = "tangelo_refused_requests_total";

/// What a client got, by status.
type Counts = BTreeMap<u16, usize>;

/// A service that answers each request when its gate is open.
struct Upstream {
    address: String,
    gate: watch::Sender<bool>,
    /// Requests that it has.
    has: Arc<AtomicUsize>,
}

impl Upstream {
    async fn start(open: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let upstream = Self {
            address: listener.local_addr()?.to_string(),
            gate: watch::Sender::new(open),
            has: Arc::default(),
        };
        let (gate, has) = (upstream.gate.clone(), Arc::clone(&upstream.has));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, gate.subscribe(), Arc::clone(&has)));
            }
        });
        Ok(upstream)
    }
}

/// Answers every request on one connection, without reading more of it than its head.
async fn serve(
    mut stream: TcpStream,
    mut gate: watch::Receiver<bool>,
    has: Arc<AtomicUsize>,
) -> Result<()> {
    let mut head = Vec::new();
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        has.fetch_add(1, Relaxed);
        gate.wait_for(|open| *open).await?;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await?;
    }
}

fn deploy(server: &Server, manifest: &str) -> Result<()> {
    fs::create_dir_all(server.scratch())?;
    fs::write(server.scratch().join("guest.wasm"), testkit::guest())?;
    server.deploy(&[("tangelo.yaml", manifest)])?;
    Ok(())
}

/// Bytes of a line of `/proc/PID/status`.
fn status_of(server: &Server, line: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let found = status.lines().find_map(|l| l.strip_prefix(line));
    let kib = found.and_then(|rest| rest.split_whitespace().next());
    Ok(kib.context("the system says it")?.parse::<u64>()? << 10)
}

/// One counter of `/metrics`, all of its lines with `labels` together.
async fn counted(server: &Server, name: &str, labels: &[&str]) -> Result<usize> {
    let metrics = server.control().get("/metrics").await?.text();
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    let chosen = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    let values = chosen.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    Ok(values.sum())
}

/// Refused as whoever is refused should be.
fn check_refusal(answer: &Answer) -> Result<()> {
    let again = answer.header("retry-after");
    ensure!(
        again.parse::<u32>().is_ok_and(|seconds| seconds > 0),
        "`Retry-After: {again}` with {}",
        answer.text()
    );
    Ok(())
}

async fn client(gateway: Client, number: usize) -> Result<Counts> {
    let body = Bytes::from(vec![b'x'; 256 << 10]);
    let event = [
        ("content-type", "text/plain"),
        ("ce-type", "load"),
        ("ce-source", "/test"),
        ("ce-specversion", "1.0"),
    ];
    let mut counts = Counts::new();
    for n in 0..REQUESTS {
        let answer = match (number + n) % 3 {
            0 => gateway.get("/guest/sleep?20").await?,
            1 => gateway.send(Method::POST, "/up", &[], body.clone()).await?,
            _ => {
                let id = format!("{number}-{n}");
                let event = [&event[..], &[("ce-id", id.as_str())]].concat();
                gateway
                    .send(Method::POST, "/events", &event, body.clone())
                    .await?
            }
        };
        if matches!(answer.status.as_u16(), 429 | 503) {
            check_refusal(&answer)?;
        }
        *counts.entry(answer.status.as_u16()).or_default() += 1;
    }
    Ok(counts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_times_the_load_is_refused_and_memory_stays_below_the_bound() -> Result<()> {
    let upstream = Upstream::start(true).await?;
    let server = Server::start_with(TANGELO, &LIMITS)?;
    let manifest = format!(
        "
app: flooded
workloads:
  guest:
    as: function
    run: {{wasm: {{component: guest.wasm}}}}
    scale: {{max: 4, concurrency: 4}}
  up:
    as: service
    run: {{external: {{url: 'http://{}'}}}}
    scale: {{concurrency: 8}}
gateway:
  routes:
    - {{path: /guest/*, to: guest, rewrite: /*}}
    - {{path: /up, to: up}}
    - {{path: /events, to: events}}
",
        upstream.address
    );
    deploy(&server, &manifest)?;
    let config = server.json(&[&["config"][..], &LIMITS].concat())?;
    let bound = config["memory"]["bytes"].as_u64();
    let bound = bound.context("a bound")?;
    let parts = config["memory"]["parts"].as_array().context("its parts")?;
    let sum: u64 = parts.iter().filter_map(|part| part["bytes"].as_u64()).sum();
    assert_eq!(sum, bound);

    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(server.gateway(), number));
    }
    let mut counts = Counts::new();
    while let Some(client) = clients.join_next().await {
        for (status, count) in client?? {
            *counts.entry(status).or_default() += count;
        }
    }
    let peak = status_of(&server, "VmHWM:")?;
    eprintln!("{counts:?}, {} MiB of at most {}", peak >> 20, bound >> 20);
    assert!(peak < bound, "{peak} bytes of at most {bound}");
    let all: usize = counts.values().sum();
    assert_eq!(all, CLIENTS * REQUESTS, "every request was answered");
    let known = [200, 202, 429, 503];
    assert!(
        counts.keys().all(|status| known.contains(status)),
        "{counts:?}"
    );
    for status in [200, 202, 503] {
        assert!(
            counts.contains_key(&status),
            "none with {status}: {counts:?}"
        );
    }
    let refused = counted(&server, REFUSED, &[]).await?;
    assert_eq!(refused, counts[&503], "what was refused is counted");
    // It serves as before: nothing of what was refused is still held.
    let answer = server.gateway().get("/guest/hello").await?;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (StatusCode::OK, "hello\n")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooded_workload_leaves_the_others_alone() -> Result<()> {
    let upstream = Upstream::start(false).await?;
    let server = Server::start_with(TANGELO, &["--requests", "4096"])?;
    let manifest = format!(
        "
app: beside
workloads:
  flooded:
    as: service
    run: {{external: {{url: 'http://{}'}}}}
    scale: {{concurrency: 8}}
    timeout: 60s
  other:
    as: function
    run: {{wasm: {{component: guest.wasm}}}}
gateway:
  routes:
    - {{path: /flooded, to: flooded}}
    - {{path: /other, to: other, rewrite: /hello}}
",
        upstream.address
    );
    deploy(&server, &manifest)?;
    // It holds 8 and a queue of 64: eight are refused, and none of the others is answered before the end.
    let labels = [
        "app=\"beside\"",
        "workload=\"flooded\"",
        "full=\"workload\"",
    ];
    let mut held = JoinSet::new();
    for _ in 0..80 {
        let gateway = server.gateway();
        held.spawn(async move { gateway.get("/flooded").await });
    }
    eventually("it is full", || async {
        let refused = counted(&server, REFUSED, &labels).await.ok()?;
        (refused == 8).then_some(())
    })
    .await;
    let gateway = server.gateway();
    let mut flood = JoinSet::new();
    for _ in 0..64 {
        let gateway = server.gateway();
        flood.spawn(async move {
            for _ in 0..20 {
                let answer = gateway.get("/flooded").await?;
                ensure!(
                    answer.status == StatusCode::SERVICE_UNAVAILABLE,
                    "{}",
                    answer.text()
                );
                check_refusal(&answer)?;
            }
            Ok(())
        });
    }
    for _ in 0..100 {
        let answer = gateway.get("/other").await?;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (StatusCode::OK, "hello\n")
        );
    }
    while let Some(client) = flood.join_next().await {
        client??;
    }
    let refused = counted(&server, REFUSED, &labels).await?;
    assert_eq!(refused, 8 + 64 * 20);
    let others = counted(&server, REFUSED, &["other"]).await?;
    assert_eq!(others, 0);
    upstream.gate.send_replace(true);
    let mut served = 0;
    while let Some(answer) = held.join_next().await {
        served += usize::from(answer??.status == StatusCode::OK);
    }
    assert_eq!(served, 72, "who was admitted is served");
    assert_eq!(upstream.has.load(Relaxed), served);
    Ok(())
}
