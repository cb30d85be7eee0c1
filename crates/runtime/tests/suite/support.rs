//! What these tests share: a launcher of their own, folders, and waiting for a condition.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use model::Clock;
use runtime::{
    container::{self, Engine},
    launcher::{CGROUPS, Launcher},
};
use tempfile::TempDir;

/// The launcher's executable.
pub(crate) const LAUNCHER: &str = env!("CARGO_BIN_EXE_tangelo-launcher");

/// A launcher with a folder that ends with it.
pub(crate) struct Fixture {
    pub(crate) launcher: Launcher,
    pub(crate) folder: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let launcher = Launcher::start(Path::new(LAUNCHER), &folder.path().join("instances"))
            .expect("the launcher starts");
        Self { launcher, folder }
    }

    /// A machine without a container engine.
    pub(crate) fn no_engine(&self) -> Engine {
        Engine::new(container::Options {
            sockets: Vec::new(),
            logins: Vec::new(),
            data: self.folder.path().to_owned(),
        })
    }

    /// On a machine where no control groups are mounted.
    pub(crate) fn without_groups() -> Self {
        let folder = TempDir::new().expect("a folder");
        let (record, groups) = (
            folder.path().join("instances"),
            folder.path().join("groups"),
        );
        let launcher = Launcher::start_with(Path::new(LAUNCHER), &record, &groups);
        let launcher = launcher.expect("the launcher starts");
        Self { launcher, folder }
    }
}

/// The folder of a process's control group for a controller, when it has one of its own for its limits.
pub(crate) fn group(pid: u32, controller: &str) -> Option<PathBuf> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let of = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        let root = match names {
            "" => Path::new(CGROUPS).to_owned(),
            names if names.split(',').any(|name| name == controller) => {
                Path::new(CGROUPS).join(controller)
            }
            _ => return None,
        };
        let folder = root.join(path.trim_start_matches('/'));
        let own = path.contains("/tangelo-") && folder.is_dir();
        own.then_some(folder)
    };
    groups.lines().find_map(of)
}

/// Waits until `condition` holds; panics with `what` after half a minute.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = Clock::system();
    for _ in 0..6_000 {
        if condition() {
            return;
        }
        clock.sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}

/// Whether a process is there and not merely waiting to be reaped.
pub(crate) fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|fields| !fields.starts_with(['Z', 'X']))
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> u32 {
    parent_of(pid).expect("the process is there")
}

fn parent_of(pid: u32) -> Option<u32> {
    state(pid)?.split(' ').nth(1)?.parse().ok()
}

fn state(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ").map(|(_, fields)| fields.to_owned())
}

/// The children of a process.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc")
        .expect("a list")
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.parse().ok()
        });
    all.filter(|pid| alive(*pid) && parent_of(*pid) == Some(of))
        .collect()
}

/// Sends a signal with the system's own tool.
pub(crate) fn kill(signal: &str, pid: u32) {
    let status = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "kill {signal} {pid}");
}

/// The port that an instance was told to listen on.
pub(crate) fn port(pid: u32) -> u16 {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("it is ours");
    let mut variables = environment.split(|byte| *byte == 0);
    let port = variables.find_map(|variable| variable.strip_prefix(b"PORT="));
    let port = std::str::from_utf8(port.expect("it has one")).expect("text");
    port.parse().expect("a number")
}

/// GETs a path of an instance past its pool, and gives back the first line of the answer.
pub(crate) async fn ask_past(port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer.lines().next().unwrap_or_default().to_owned()
}
