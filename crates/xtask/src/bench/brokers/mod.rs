//! Events of 1 KiB, published with an acknowledgement after the sync: Tangelo, over HTTP and over one connection that
//! stays, beside NATS JetStream, RabbitMQ's quorum queues and Redis Streams, each over its own protocol on one connection,
//! with so many unacknowledged.
//!
//! Every broker is told to sync before it acknowledges. The load generator counts for no side.

mod nats;
mod rabbitmq;
mod redis;
mod tangelo;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;

use tangelo::Tangelo;

use super::{Bench, Figure, cpu, load, median, process::Peer, wasm};
use crate::server::Server;

const IN_FLIGHT: [usize; 4] = [1, 16, 256, 1024];
/// Events in one request, where they come in batches; as many are in flight as without.
const BATCH: usize = 16;
const BATCHED_IN_FLIGHT: usize = 256;
/// Bytes of an event's data.
const SIZE: usize = 1024;

/// What is sent and heard over one connection.
struct Wire {
    stream: BufReader<TcpStream>,
    out: Vec<u8>,
}

impl Wire {
    fn new(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            out: Vec::new(),
        })
    }

    /// Sends what is buffered.
    fn flush(&mut self) -> anyhow::Result<()> {
        self.stream.get_mut().write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// A line, without its end.
    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line)?;
        ensure!(length > 0, "the connection was closed");
        Ok(line.trim_end().to_owned())
    }
}

/// A connection to a broker.
trait Publisher {
    fn wire(&mut self) -> &mut Wire;

    /// Buffers a message.
    fn publish(&mut self, data: &[u8]) -> anyhow::Result<()>;

    /// One thing that the broker says: how many messages it acknowledges.
    fn hear(&mut self) -> anyhow::Result<usize>;

    /// Sends what is buffered, waits for acknowledgements, and says how many came.
    fn acknowledged(&mut self) -> anyhow::Result<usize> {
        self.wire().flush()?;
        let mut count = 0;
        while count == 0 || !self.wire().stream.buffer().is_empty() {
            count += self.hear()?;
        }
        Ok(count)
    }
}

/// A broker that serves, with a connection to it.
struct Broker {
    name: String,
    peer: Peer,
    publisher: Box<dyn Publisher>,
}

/// What one round showed.
#[derive(Default)]
struct Rounds {
    per_second: Vec<f64>,
    per_cpu_second: Vec<f64>,
}

/// Measures us and each broker in turns.
pub(super) fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Figure>> {
    let script = load::publishing(&bench.folder)?;
    let manifest = "app: events\nworkloads:\n  nobody: {as: service, run: {external: {url: \"http://127.0.0.1:9\"}}}\n\
                    gateway:\n  routes:\n    - {path: /events, methods: [GET, POST], to: events}\n";
    let server = wasm::deployed(bench, Path::new(""), manifest, &[])?;
    let mut figures = Vec::new();
    for start in [nats::start, rabbitmq::start, redis::start] {
        let mut broker = start(bench)?;
        let ours = Ours {
            server: &server,
            script: &script,
        };
        for in_flight in IN_FLIGHT {
            figures.extend(ours.against(bench, &mut broker, in_flight, 1)?);
            figures.extend(ours.on_one_connection(bench, &mut broker, in_flight)?);
        }
        figures.extend(ours.against(bench, &mut broker, BATCHED_IN_FLIGHT, BATCH)?);
    }
    server.stop()?;
    Ok(figures)
}

/// Our side, and the script of its load over HTTP.
struct Ours<'s> {
    server: &'s Server,
    script: &'s Path,
}

impl Ours<'_> {
    /// Over HTTP, a batch in each request.
    fn against(
        &self,
        bench: &Bench<'_>,
        broker: &mut Broker,
        in_flight: usize,
        batch: usize,
    ) -> anyhow::Result<[Figure; 2]> {
        let url = format!("{}/events", self.server.addresses.gateway);
        let seconds = bench.options.seconds;
        let how = match batch {
            1 => format!("{in_flight} in flight"),
            _ => format!("{in_flight} in flight, ours in batches of {batch}"),
        };
        in_turns(bench, broker, in_flight, &how, |run, ours| {
            let argument = format!("{batch}:{SIZE}:{run}");
            let connections = in_flight.div_ceil(batch);
            let load = (self.script, argument.as_str());
            let (round, _) = load::scripted(&url, connections, load, self.server.pid(), seconds)?;
            #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
            let events = batch as f64;
            ours.per_second.push(round.per_second * events);
            ours.per_cpu_second.push(round.per_cpu_second * events);
            Ok(())
        })
    }

    /// Over one connection that stays.
    fn on_one_connection(
        &self,
        bench: &Bench<'_>,
        broker: &mut Broker,
        in_flight: usize,
    ) -> anyhow::Result<[Figure; 2]> {
        let how = format!("{in_flight} in flight, ours on one connection");
        in_turns(bench, broker, in_flight, &how, |run, ours| {
            let gateway = &self.server.addresses.gateway;
            let mut connection = Tangelo::connect(gateway, format!("{run}-one"))?;
            let seconds = bench.options.seconds;
            ours.note(&mut connection, self.server.pid(), in_flight, seconds)
        })
    }
}

/// Measures one round of ours by `measure`, which is told its name, then one of the broker's, and so on.
fn in_turns(
    bench: &Bench<'_>,
    broker: &mut Broker,
    in_flight: usize,
    how: &str,
    measure: impl Fn(&str, &mut Rounds) -> anyhow::Result<()>,
) -> anyhow::Result<[Figure; 2]> {
    let (mut ours, mut theirs) = (Rounds::default(), Rounds::default());
    for round in 0..bench.options.rounds {
        measure(&format!("{}-{in_flight}-{round}", broker.name), &mut ours)?;
        let publisher = broker.publisher.as_mut();
        theirs.note(
            publisher,
            broker.peer.pid(),
            in_flight,
            bench.options.seconds,
        )?;
    }
    Ok(figures(bench, how, &broker.name, ours, theirs))
}

fn figures(
    bench: &Bench<'_>,
    how: &str,
    peer: &str,
    mut ours: Rounds,
    mut theirs: Rounds,
) -> [Figure; 2] {
    [
        bench.more(
            "publish",
            &format!("1 KiB events per second, {how}"),
            peer,
            median(&mut ours.per_second),
            median(&mut theirs.per_second),
        ),
        bench.more(
            "publish",
            &format!("1 KiB events per CPU second, {how}"),
            peer,
            median(&mut ours.per_cpu_second),
            median(&mut theirs.per_cpu_second),
        ),
    ]
}

impl Rounds {
    /// Keeps `in_flight` messages unacknowledged for a while at the process `pid`.
    fn note(
        &mut self,
        publisher: &mut dyn Publisher,
        pid: u32,
        in_flight: usize,
        seconds: u64,
    ) -> anyhow::Result<()> {
        let data = vec![b'x'; SIZE];
        let length = Duration::from_secs(seconds);
        let cpu_before = cpu::seconds(pid)?;
        let (begun, mut open, mut done) = (Instant::now(), 0, 0_u32);
        while begun.elapsed() < length {
            while open < in_flight {
                publisher.publish(&data)?;
                open += 1;
            }
            let acknowledged = publisher.acknowledged()?;
            ensure!(acknowledged <= open, "what was not sent was acknowledged");
            open -= acknowledged;
            done += u32::try_from(acknowledged)?;
        }
        let (done, took) = (f64::from(done), begun.elapsed().as_secs_f64());
        while open > 0 {
            open -= publisher.acknowledged()?.min(open);
        }
        self.per_second.push(done / took);
        let used = cpu::seconds(pid)? - cpu_before;
        self.per_cpu_second.push(done / used);
        Ok(())
    }
}
