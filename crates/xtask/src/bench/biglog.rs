//! A log of ten million events beside one of ten thousand (or as `--events` says): events published per second, memory, time
//! to ready. And a backlog of a tenth of that which is delivered while events are published, beside the same without one.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{
    Bench, Figure,
    load::{self, Round},
    median, memory, wasm,
};
use crate::{
    http::{Client, Request},
    server::Server,
};

const SCRIPT: &str = include_str!("biglog.lua");
/// The small log has so much less.
const SMALLER: u64 = 1000;
/// Events in one request while a log is filled, and connections that fill it.
const BATCH: u64 = 1000;
const WRITERS: u64 = 4;
/// Events in flight while publishing is measured.
const IN_FLIGHT: usize = 64;
/// What a start left to do is done by then.
const SETTLES: Duration = Duration::from_secs(2);
const DRAINS_WITHIN: Duration = Duration::from_secs(1800);
const WAITING: &str = "biglog/react/waiting";

const MANIFEST: &str = "
app: biglog
workloads:
  react:
    as: function
    run: {wasm: {component: hello.wasm}}
    on: [{event: {type: [bench.waited]}, name: waiting}]
gateway:
  routes:
    - {path: /events, methods: [POST], to: events}
";

/// What one log shows.
#[derive(Default)]
struct Shown {
    published: Vec<f64>,
    per_cpu_second: Vec<f64>,
    resident: Vec<f64>,
    ready: Vec<f64>,
}

/// Measures it.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let component = wasm::component(bench.workspace, None)?;
    let script = bench.folder.join("biglog.lua");
    fs::write(&script, SCRIPT)?;
    let app = bench.folder.join("app");
    fs::create_dir_all(&app)?;
    fs::write(app.join("tangelo.yaml"), MANIFEST)?;
    fs::copy(component, app.join("hello.wasm"))?;
    let events = bench.options.events.max(SMALLER * 10);
    let logs = [("small", events / SMALLER), ("large", events)];
    for (name, count) in logs {
        filled(bench, &app, name, count)?;
    }
    let mut shown = [Shown::default(), Shown::default()];
    for round in 0..bench.options.rounds {
        for (shown, (name, _)) in shown.iter_mut().zip(logs) {
            measure(bench, name, &script, round, shown)?;
        }
    }
    let mut figures = compared(bench, &mut shown, events);
    figures.extend(backlog(bench, &script, events / 10)?);
    Ok(figures)
}

fn compared(bench: &Bench<'_>, shown: &mut [Shown; 2], events: u64) -> Vec<Figure> {
    let [small, large] = shown;
    let peer = format!("tangelo with a log of {}", events / SMALLER);
    let name = |metric: &str| format!("{metric}, a log of {events}");
    let (published, per_cpu, resident, ready) = (
        name("events published per second, 64 in flight"),
        name("events published per CPU second, 64 in flight"),
        name("MiB resident"),
        name("ms from start to ready"),
    );
    let less = |metric: &str, large: &mut [f64], small: &mut [f64]| {
        bench.less("biglog", metric, &peer, median(large), median(small))
    };
    let memory = less(&resident, &mut large.resident, &mut small.resident);
    let start = less(&ready, &mut large.ready, &mut small.ready);
    let more = |metric: &str, large: &mut [f64], small: &mut [f64]| {
        bench.more("biglog", metric, &peer, median(large), median(small))
    };
    vec![
        more(&published, &mut large.published, &mut small.published),
        more(
            &per_cpu,
            &mut large.per_cpu_second,
            &mut small.per_cpu_second,
        ),
        memory,
        start,
    ]
}

/// A data folder with the app deployed and so many events in its log, none of which anybody waits for.
fn filled(bench: &Bench<'_>, app: &Path, name: &str, count: u64) -> anyhow::Result<()> {
    let server = wasm::serve(bench, &bench.folder.join(name), true, &[], None)?;
    server.tangelo(&["deploy", app.to_str().context("a path in UTF-8")?])?;
    fill(&server, "bench.logged", count)?;
    server.stop()
}

/// Publishes so many events, in batches, on a few connections.
fn fill(server: &Server, kind: &str, count: u64) -> anyhow::Result<()> {
    let address = server.gateway()?;
    let batches = count.div_ceil(BATCH);
    thread::scope(|scope| {
        let write = |writer: u64| {
            let mut client = Client::new(address);
            for batch in (writer..batches).step_by(WRITERS as usize) {
                let numbers = batch * BATCH..count.min((batch + 1) * BATCH);
                let event = |number| {
                    json!({
                        "specversion": "1.0", "id": format!("{kind}-{number}"), "source": "/bench", "type": kind,
                        "data": {"total": 42},
                    })
                };
                let events: Value = numbers.map(event).collect();
                let request = Request {
                    headers: vec![(
                        "content-type",
                        "application/cloudevents-batch+json".to_owned(),
                    )],
                    ..Request::post("/events", &events)
                };
                let mut status = client.send(&request)?.status;
                // The writer may be behind: a publisher that is told to wait waits.
                while status == 503 {
                    thread::sleep(Duration::from_millis(50));
                    status = client.send(&request)?.status;
                }
                ensure!(status == 202, "a publish was answered with {status}");
            }
            anyhow::Ok(())
        };
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || write(writer)))
            .collect();
        writers.into_iter().try_for_each(|writer| {
            let ended = writer.join();
            ended.unwrap_or_else(|_| anyhow::bail!("a writer panicked"))
        })
    })
}

fn measure(
    bench: &Bench<'_>,
    name: &str,
    script: &Path,
    round: usize,
    shown: &mut Shown,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let server = wasm::serve(bench, &bench.folder.join(name), false, &[], None)?;
    shown.ready.push(begun.elapsed().as_secs_f64() * 1000.0);
    thread::sleep(SETTLES);
    let round = published(bench, &server, script, &format!("{name}-{round}"))?;
    shown.published.push(round.per_second);
    shown.per_cpu_second.push(round.per_cpu_second);
    shown.resident.push(memory::resident_mib(server.pid())?);
    server.stop()
}

/// Events published, each with its own request and its own answer.
fn published(
    bench: &Bench<'_>,
    server: &Server,
    script: &Path,
    prefix: &str,
) -> anyhow::Result<Round> {
    let url = format!("{}/events", server.addresses.gateway);
    let seconds = bench.options.seconds;
    let (round, _) = load::scripted(&url, IN_FLIGHT, (script, prefix), server.pid(), seconds)?;
    Ok(round)
}

/// Publishing beside a backlog that is delivered, and beside none.
fn backlog(bench: &Bench<'_>, script: &Path, count: u64) -> anyhow::Result<Vec<Figure>> {
    let server = wasm::serve(bench, &bench.folder.join("large"), false, &[], None)?;
    thread::sleep(SETTLES);
    let mut alone = Vec::new();
    for round in 0..bench.options.rounds {
        let round = published(bench, &server, script, &format!("alone-{round}"))?;
        alone.push(round.per_second);
    }
    server.tangelo(&["subscriptions", "pause", WAITING])?;
    fill(&server, "bench.waited", count)?;
    let waiting = load::undelivered(&server)?;
    ensure!(waiting >= count, "{waiting} of {count} events wait");
    server.tangelo(&["subscriptions", "resume", WAITING])?;
    let (begun, mut beside, mut round) = (Instant::now(), Vec::new(), 0);
    while load::undelivered(&server)? > 0 && round < bench.options.rounds {
        let published = published(bench, &server, script, &format!("beside-{round}"))?;
        // A round in whose middle the backlog ended shows neither.
        if load::undelivered(&server)? > 0 {
            beside.push(published.per_second);
        }
        round += 1;
    }
    while load::undelivered(&server)? > 0 {
        let drained = begun.elapsed() < DRAINS_WITHIN;
        ensure!(
            drained,
            "{} events are not delivered",
            load::undelivered(&server)?
        );
        thread::sleep(Duration::from_millis(100));
    }
    let took = begun.elapsed().as_secs_f64();
    server.stop()?;
    ensure!(
        !beside.is_empty(),
        "the backlog was gone before a round of publishing was over"
    );
    let metric = "events published per second while a backlog is delivered, 64 in flight";
    let peer = "tangelo without one";
    Ok(vec![
        bench.more(
            "biglog",
            metric,
            peer,
            median(&mut beside),
            median(&mut alone),
        ),
        bench.alone(
            "biglog",
            "events of the backlog delivered per second",
            count as f64 / took,
        ),
    ])
}
