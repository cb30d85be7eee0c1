//! Where each server of a soak runs: started, killed, and looked at afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{
    PATIENCE,
    kills::Kill,
    publishers::Load,
    work::{WORK, Work},
};
use crate::{
    http::{Client, Request},
    server::{self, Ports, Server},
};

/// How often a moment may come too early.
const TRIES: usize = 4;

/// Where each server of a soak runs.
pub(super) struct Place<'a> {
    pub(super) binary: &'a Path,
    pub(super) data: &'a Path,
    pub(super) first_port: u16,
}

impl Place<'_> {
    fn options<'o>(&'o self, fresh: bool, crash: Option<&'o str>) -> server::Options<'o> {
        server::Options {
            binary: self.binary,
            data: self.data,
            fresh,
            secrets: None,
            ports: Ports::From(self.first_port),
            flags: &[],
            clean: false,
            crash,
            path: None,
        }
    }

    pub(super) fn start(&self, fresh: bool, crash: Option<&str>) -> anyhow::Result<Server> {
        Server::start(&self.options(fresh, crash))
    }

    /// Kills `server` as `kill` has it, once it has work, and starts the next; answers with when that began.
    pub(super) fn kill(
        &self,
        server: Server,
        kill: &Kill,
        load: &Load,
    ) -> anyhow::Result<(Server, Instant)> {
        let before = load.acknowledged();
        load.expect_work(before)?;
        match kill {
            Kill::After(pause) => {
                thread::sleep(*pause);
                load.expect_work(before)?;
                server.kill()?;
            }
            Kill::Moment(moment) => {
                // Told from its start on, so it is another server that comes to its moment.
                server.stop()?;
                self.come_to(moment, load)?;
            }
            Kill::Recovery(pause, moment) => {
                thread::sleep(*pause);
                load.expect_work(before)?;
                server.kill()?;
                Server::start_to_end(&self.options(false, Some(moment)))?;
            }
        }
        let begun = Instant::now();
        Ok((self.start(false, None)?, begun))
    }

    /// Has a server end at `moment`. One that came to it before enough was acknowledged, since it had more of its predecessor's
    /// work left to do, does not count: the next comes to it later.
    fn come_to(&self, moment: &str, load: &Load) -> anyhow::Result<()> {
        let (name, pass) = moment.rsplit_once(':').context("a name and a number")?;
        let mut pass: u64 = pass.parse()?;
        for _ in 0..TRIES {
            let told = self.start(false, Some(&format!("{name}:{pass}")))?;
            let before = load.acknowledged();
            told.ends()?;
            let work = Work {
                acknowledged: load.acknowledged() - before,
                // The moments are within work.
                in_flight: 1,
            };
            if work.is_worth_a_kill() {
                return Ok(());
            }
            pass *= 2;
        }
        bail!("{TRIES} times the moment came before {WORK} were acknowledged")
    }
}

/// What was seen after the kills.
#[derive(Default)]
pub(super) struct After {
    pub(super) orphans: usize,
    pub(super) ready: Vec<Duration>,
    pub(super) answers: Vec<Duration>,
}

impl After {
    /// Looks at a server that was started at `begun`, and for what its predecessor's `sink` left behind.
    pub(super) fn note(
        &mut self,
        sink: &Sink,
        next: (Server, Instant),
    ) -> anyhow::Result<(Sink, Server)> {
        let (server, begun) = next;
        self.ready.push(begun.elapsed());
        self.orphans += usize::from(is_alive(sink.pid));
        let sink = Sink::of(&server)?;
        self.answers.push(begun.elapsed());
        Ok((sink, server))
    }
}

/// What the sink says about itself.
pub(super) struct Sink {
    pid: u32,
    pub(super) ledger: PathBuf,
}

impl Sink {
    /// Asks the sink; waits until it is up.
    pub(super) fn of(server: &Server) -> anyhow::Result<Self> {
        let mut client = Client::new(server.gateway()?);
        let start = Instant::now();
        loop {
            let answer = client.send(&Request::get("/sink"))?;
            let body = answer.json();
            if let (Some(pid), Some(ledger)) = (body["pid"].as_u64(), body["ledger"].as_str()) {
                return Ok(Self {
                    pid: pid.try_into()?,
                    ledger: ledger.into(),
                });
            }
            if start.elapsed() > PATIENCE {
                bail!("the workload does not come up: {} {body}", answer.status);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Whether a process runs. A zombie that nobody waited for yet does not.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|rest| !rest.starts_with('Z'))
}
