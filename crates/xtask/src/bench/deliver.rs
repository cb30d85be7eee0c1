//! Events that are accepted durably, each with its own request and its own answer after the sync, and delivered to a Wasm
//! function: how many each second with 1, 64 and 1,024 in flight, until the last was delivered, where one subscription
//! matches and where 16 do; and how long after its publish one arrives at a service, at the last of its subscriptions.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{Bench, Figure, cpu, load, wasm};
use crate::{
    http::{Client, Request},
    server::Server,
};

const IN_FLIGHT: [usize; 3] = [1, 64, 1024];
/// Subscriptions that match each event.
const MATCHING: [usize; 2] = [1, 16];
/// Bytes of an event's data.
const SIZE: usize = 16;
/// What was used is on the bill so soon after it.
const BILLED_WITHIN: Duration = Duration::from_secs(10);
/// Events whose way is timed, and the pause before each: nothing else is under way.
const TIMED: usize = 300;
const PAUSE: Duration = Duration::from_millis(5);
const DRAINS_WITHIN: Duration = Duration::from_secs(300);
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// The function that passes on what it gets; built beside the other.
const PASSES_ON: &str = "passes_on.wasm";
/// Types of events that are timed, and where they are when they arrive.
type Way = (&'static str, &'static str);
const TO_A_SERVICE: Way = ("bench.timed", "to its arrival at a service");
const THROUGH_A_FUNCTION: Way = (
    "bench.passed-on",
    "through a Wasm function, on to a service",
);

/// Which event came, and when.
type Arrival = (String, Instant);

/// Measures it.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let component = wasm::component(bench.workspace, None)?;
    let script = load::publishing(&bench.folder)?;
    let app = bench.folder.join("app");
    fs::create_dir_all(&app)?;
    fs::copy(component.with_file_name(PASSES_ON), app.join(PASSES_ON))?;
    let (sink, arrivals) = sink()?;
    let mut figures = Vec::new();
    for matching in MATCHING {
        let server = wasm::deployed(bench, &component, &manifest(matching, sink), &[])?;
        for in_flight in IN_FLIGHT {
            figures.extend(flow(bench, &server, &script, matching, in_flight)?);
        }
        for way in [TO_A_SERVICE, THROUGH_A_FUNCTION] {
            figures.extend(timed_way(bench, &server, &arrivals, (way, matching))?);
        }
        server.stop()?;
    }
    Ok(figures)
}

/// An app whose functions and service have so many subscriptions each for an event.
fn manifest(matching: usize, sink: SocketAddr) -> String {
    let on = |kind: &str| -> String {
        let one = |number| format!("{{event: {{type: [{kind}]}}, name: on-{number}}}");
        let all: Vec<_> = (0..matching).map(one).collect();
        format!("[{}]", all.join(", "))
    };
    let [happened, timed, passed] = ["bench.happened", "bench.timed", "bench.passed-on"].map(on);
    format!(
        "app: events
workloads:
  react:
    as: function
    run: {{wasm: {{component: hello.wasm}}}}
    on: {happened}
  passes-on:
    as: function
    run: {{wasm: {{component: passes_on.wasm}}}}
    env: {{SINK: \"http://{sink}/\"}}
    egress: [\"{sink}\"]
    on: {passed}
  sink:
    as: service
    run: {{external: {{url: \"http://{sink}\"}}}}
    on: {timed}
gateway:
  routes:
    - {{path: /events, methods: [POST], to: events}}
"
    )
}

/// So many requests in flight, until the last event was delivered to each subscription.
fn flow(
    bench: &Bench<'_>,
    server: &Server,
    script: &Path,
    matching: usize,
    in_flight: usize,
) -> anyhow::Result<Vec<Figure>> {
    let (before, used) = (delivered(server)?, cpu::seconds(server.pid())?);
    let begun = Instant::now();
    let url = format!("{}/events", server.addresses.gateway);
    let argument = format!("1:{SIZE}:at-{in_flight}");
    let seconds = bench.options.seconds;
    let (round, half) =
        load::scripted(&url, in_flight, (script, &argument), server.pid(), seconds)?;
    drained(server)?;
    let took = begun.elapsed();
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let expected = round.requests * matching as f64;
    // Events may be accepted whose answers wrk did not wait for; and what was used is written a moment after it was.
    let delivered = loop {
        let delivered = delivered(server)? - before;
        if delivered >= expected {
            break delivered;
        }
        ensure!(
            begun.elapsed() < took + BILLED_WITHIN,
            "{} events were accepted for {matching}, {delivered} delivered",
            round.requests
        );
        thread::sleep(Duration::from_millis(50));
    };
    let used = cpu::seconds(server.pid())? - used;
    let rate = delivered / took.as_secs_f64();
    let figure = |(metric, value)| {
        let metric = format!("{metric}, {in_flight} in flight, {matching} subscribed");
        bench.alone("deliver", &metric, value)
    };
    let all = [
        ("events accepted per second", round.per_second),
        ("deliveries settled per second", rate),
        (
            "CPU seconds for 100,000 deliveries, publishing among them",
            used / delivered * 1e5,
        ),
        ("ms until an event is durable, median", half),
        ("ms until an event is durable, 99 of 100", round.p99),
    ];
    Ok(all.map(figure).into())
}

/// How long one event takes from its publish until it arrived for its last subscription, when nothing else is under way.
fn timed_way(
    bench: &Bench<'_>,
    server: &Server,
    arrivals: &mpsc::Receiver<Arrival>,
    ((kind, way), matching): (Way, usize),
) -> anyhow::Result<Vec<Figure>> {
    let mut millis = timed(server, arrivals, kind, matching)?;
    millis.sort_by(f64::total_cmp);
    let named = [("median", TIMED / 2), ("99 of 100", TIMED * 99 / 100)];
    let figure = |(name, at): (&str, usize)| {
        let metric =
            format!("ms from the publish of an event {way}, {name}, {matching} subscribed");
        bench.alone("deliver", &metric, millis[at])
    };
    Ok(named.map(figure).into())
}

/// Deliveries that ended, as `tangelo usage` counts them.
fn delivered(server: &Server) -> anyhow::Result<f64> {
    let usage = server.tangelo(&["usage"])?;
    let rows = usage.as_array().or_else(|| usage["usage"].as_array());
    let row = rows
        .into_iter()
        .flatten()
        .find(|row| row["workload"] == "react");
    Ok(row.and_then(|row| row["requests"].as_f64()).unwrap_or(0.0))
}

/// Waits until nothing is left to deliver.
fn drained(server: &Server) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let left = load::undelivered(server)?;
        if left == 0 {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < DRAINS_WITHIN,
            "{left} events are not delivered"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// Milliseconds from the publish of each event to its last arrival, one event after another.
fn timed(
    server: &Server,
    arrivals: &mpsc::Receiver<Arrival>,
    kind: &str,
    matching: usize,
) -> anyhow::Result<Vec<f64>> {
    let mut client = Client::new(server.gateway()?);
    let mut took = Vec::new();
    for number in 0..TIMED {
        let id = format!("{kind}-{number}");
        let request = Request::post("/events", &json!({"number": number}))
            .header("ce-specversion", "1.0")
            .header("ce-id", &id)
            .header("ce-source", "/bench")
            .header("ce-type", kind);
        let begun = Instant::now();
        let status = client.send(&request)?.status;
        ensure!(status == 202, "a publish was answered with {status}");
        let mut left = matching;
        while left > 0 {
            let (came, at) = arrivals
                .recv_timeout(ARRIVES_WITHIN)
                .with_context(|| format!("{id} did not arrive {left} times"))?;
            if came == id {
                left -= 1;
                if left == 0 {
                    took.push(at.saturating_duration_since(begun).as_secs_f64() * 1000.0);
                }
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(took)
}

/// A service that tells when each event comes.
fn sink() -> anyhow::Result<(SocketAddr, mpsc::Receiver<Arrival>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (sender, arrivals) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            thread::spawn(move || note(stream, &sender));
        }
    });
    Ok((address, arrivals))
}

fn note(stream: TcpStream, arrivals: &mpsc::Sender<Arrival>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let (mut id, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            ensure!(stream.read_line(&mut line)? > 0, "closed");
            let Some((name, value)) = line.trim_end().split_once(':') else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "ce-id" => id = Some((value.trim().to_owned(), Instant::now())),
                "content-length" => length = value.trim().parse()?,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        std::io::Read::read_exact(&mut stream, &mut body)?;
        if length > 0 {
            let _: Value = serde_json::from_slice(&body)?;
        }
        if let Some(arrival) = id {
            arrivals.send(arrival)?;
        }
        stream
            .get_mut()
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}
