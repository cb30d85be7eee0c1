//! A `tangelo serve` of our own: started, asked through its command line as a user would, and stopped.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    ends, shell,
    workspace::{Workspace, cargo},
};

const STOPS_WITHIN: Duration = Duration::from_secs(30);
/// How long a server under load may take to come to the moment at which it is to end.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    process: Child,
    binary: PathBuf,
    data: PathBuf,
    pub(crate) addresses: Addresses,
}

/// Where it listens, as its first line of output says.
#[derive(Debug, Clone, Deserialize, serde::Serialize)]
pub(crate) struct Addresses {
    pub(crate) gateway: String,
    pub(crate) control: String,
    pub(crate) aws: String,
    #[serde(default)]
    pub(crate) mesh: String,
}

/// How to start it.
pub(crate) struct Options<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) data: &'a Path,
    /// Empty the data folder first.
    pub(crate) fresh: bool,
    pub(crate) secrets: Option<&'a Path>,
    pub(crate) ports: Ports,
    /// More flags of `tangelo serve`.
    pub(crate) flags: &'a [&'a str],
    /// Start it with nothing in its environment but `PATH`, `HOME` and `LANG`.
    pub(crate) clean: bool,
    /// When it is to end without notice, as `TANGELO_CRASH_AT` has it.
    pub(crate) crash: Option<&'a str>,
    /// Where it looks for programs, instead of where we do.
    pub(crate) path: Option<&'a str>,
}

/// Where it is to listen.
#[derive(Clone, Copy)]
pub(crate) enum Ports {
    /// Wherever is free.
    Any,
    /// Where the documentation says, and wherever is free instead of what is taken.
    Usual,
    /// At the first of these and its next three neighbours, or not at all.
    From(u16),
}

/// Builds the `tangelo` binary and says where it is.
pub(crate) fn build(workspace: &Workspace, release: bool) -> anyhow::Result<PathBuf> {
    let mut command = shell::command(
        cargo(),
        &["build", "--locked", "-p", "tangelo"],
        &workspace.root,
    );
    if release {
        command.arg("--release");
    }
    // Its output is for standard error: standard output may be one JSON object.
    shell::run(command.stdout(std::io::stderr()))?;
    let profile = if release { "release" } else { "debug" };
    Ok(workspace.target.join(profile).join("tangelo"))
}

impl Server {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(options: &Options<'_>) -> anyhow::Result<Self> {
        let mut process = spawn(options)?;
        let output = process.stdout.take().context("its output was piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let addresses = serde_json::from_str(&line)
            .with_context(|| format!("tangelo serve said {line:?} instead of its addresses"))?;
        Ok(Self {
            process,
            binary: options.binary.to_owned(),
            data: options.data.to_owned(),
            addresses,
        })
    }

    /// Starts one that ends before it listens, at the moment that it was told.
    ///
    /// # Errors
    /// When it does not, or ends in another way.
    pub(crate) fn start_to_end(options: &Options<'_>) -> anyhow::Result<()> {
        ended_without_notice(&mut spawn(options)?)
    }

    /// Waits until it ends at the moment that it was told.
    ///
    /// # Errors
    /// When it does not, or ends in another way.
    pub(crate) fn ends(mut self) -> anyhow::Result<()> {
        ended_without_notice(&mut self.process)
    }

    /// Runs `tangelo ARGUMENTS --json` against it.
    pub(crate) fn tangelo(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = shell::output(&mut self.command(arguments))?;
        serde_json::from_str(&text)
            .with_context(|| format!("tangelo {} printed no JSON", arguments.join(" ")))
    }

    /// Its subscriptions, as it shows them.
    pub(crate) fn subscriptions(&self) -> anyhow::Result<Vec<Value>> {
        let mut answer = self.tangelo(&["subscriptions"])?;
        match answer["subscriptions"].take() {
            Value::Array(rows) => Ok(rows),
            other => anyhow::bail!("tangelo subscriptions said {other}"),
        }
    }

    /// `tangelo ARGUMENTS --json` against it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("--data")
            .arg(&self.data)
            .arg("--json")
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// The gateway's address.
    pub(crate) fn gateway(&self) -> anyhow::Result<SocketAddr> {
        address(&self.addresses.gateway)
    }

    /// The control API's address.
    pub(crate) fn control(&self) -> anyhow::Result<SocketAddr> {
        address(&self.addresses.control)
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it ends by itself, as after Ctrl-C in the terminal, which it gets too (other signals: [`ends`]).
    pub(crate) fn wait(mut self) -> anyhow::Result<()> {
        self.process.wait()?;
        Ok(())
    }

    /// Ends it without notice, as a power switch does, and waits for it to be gone.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("tangelo serve had ended by itself with {status}");
        }
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Tells it to stop and waits for it.
    ///
    /// # Errors
    /// When it does not stop in time or fails at it.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.pid().to_string();
        shell::run(&mut shell::command(
            "kill",
            &["-TERM", &pid],
            Path::new("."),
        ))?;
        let start = Instant::now();
        loop {
            match self.process.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("tangelo serve ended with {status}"),
                None if start.elapsed() > STOPS_WITHIN => bail!("tangelo serve does not stop"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let host = url.strip_prefix("http://").unwrap_or(url);
    let host = host.trim_end_matches('/').parse();
    host.with_context(|| format!("{url} is not an address"))
}

/// Starts `tangelo serve`.
fn spawn(options: &Options<'_>) -> anyhow::Result<Child> {
    if options.fresh {
        let _ = fs::remove_dir_all(options.data);
    }
    fs::create_dir_all(options.data)?;
    let port = |at, usual| options.ports.address(at, usual).to_string();
    let mut command = Command::new(options.binary);
    command
        .arg("--data")
        .arg(options.data)
        .args([
            "--json",
            "serve",
            "--gateway",
            &port(0, 8080),
            "--control",
            &port(1, 8081),
        ])
        .args(["--aws", &port(2, 4566)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command.args(options.flags);
    if let Some(secrets) = options.secrets {
        command.arg("--secrets").arg(secrets);
    }
    if options.clean {
        shell::clean(&mut command);
    }
    // No flag: a binary of an earlier day, measured beside this one, would refuse it.
    command.env("TANGELO_OTLP_IN", port(3, 4318));
    command.envs(options.path.map(|path| ("PATH", path)));
    command.envs(options.crash.map(|moment| ("TANGELO_CRASH_AT", moment)));
    let process = command.spawn().context("tangelo does not start")?;
    ends::begins(process.id());
    Ok(process)
}

/// Waits until a server has ended without notice.
fn ended_without_notice(process: &mut Child) -> anyhow::Result<()> {
    let ended = await_end(process);
    ends::ended(process.id());
    ended
}

fn await_end(process: &mut Child) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        match process.try_wait()? {
            Some(status) if status.signal().is_some() => return Ok(()),
            Some(status) => bail!("tangelo serve ended with {status}, and not at its moment"),
            None if start.elapsed() > ENDS_WITHIN => {
                process.kill()?;
                process.wait()?;
                bail!("tangelo serve did not come to its moment");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

impl Drop for Server {
    /// Also when a step before `stop` failed: nothing of ours is left running.
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        ends::ended(self.process.id());
    }
}

impl Ports {
    /// So many neighbours that nobody listens at. They are below what systems give to connections as they like: one
    /// to a server that was just killed could otherwise get the server's own port.
    pub(crate) fn free(neighbours: u16) -> anyhow::Result<u16> {
        let start = 15_000 + u16::try_from(std::process::id() % 10_000)?;
        (start..30_000)
            .find(|first| {
                (0..neighbours).all(|next| TcpListener::bind(local(first + next)).is_ok())
            })
            .context("no free ports")
    }

    fn address(self, at: u16, usual: u16) -> SocketAddr {
        match self {
            Self::From(first) => local(first + at),
            Self::Usual if TcpListener::bind(local(usual)).is_ok() => local(usual),
            Self::Usual | Self::Any => local(0),
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
