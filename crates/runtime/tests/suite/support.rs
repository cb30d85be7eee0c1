//! What these tests share: a launcher of their own, folders, and waiting for a condition.

use std::{path::Path, time::Duration};

use model::Clock;
use runtime::launcher::Launcher;
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
    let fields = state(pid).expect("the process is there");
    let parent = fields.split(' ').nth(1).expect("a field");
    parent.parse().expect("a number")
}

fn state(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ").map(|(_, fields)| fields.to_owned())
}

/// Sends a signal with the system's own tool.
pub(crate) fn kill(signal: &str, pid: u32) {
    let status = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "kill {signal} {pid}");
}
