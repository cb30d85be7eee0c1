//! Whoever ends this command ends the servers that it started: by SIGTERM and by a closed terminal as by Ctrl-C.

use std::{
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// Servers that run.
static SERVERS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// How long they may take to finish what they have.
const PATIENCE: Duration = Duration::from_secs(30);

/// From now on a signal that ends this process first ends its servers.
pub(crate) fn watch() -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT]).context("signals are not heard")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // A second one is not waited for.
            thread::spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    std::process::exit(128 + signal);
                }
            });
            end_servers(signal);
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// A server runs.
pub(crate) fn begins(pid: u32) {
    servers(|pids| pids.push(pid));
}

/// It is gone, and its id may be another's.
pub(crate) fn ended(pid: u32) {
    servers(|pids| pids.retain(|known| *known != pid));
}

fn servers<T>(of: impl FnOnce(&mut Vec<u32>) -> T) -> T {
    let mut pids = SERVERS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    of(&mut pids)
}

fn end_servers(signal: i32) {
    let pids = servers(|pids| pids.clone());
    // A terminal tells them itself, and a second signal would cut them short.
    if signal != SIGINT {
        for pid in &pids {
            let _ = Command::new("kill")
                .args(["-TERM", &pid.to_string()])
                .status();
        }
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && pids.iter().any(|pid| runs(*pid)) {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether it runs, and is not merely waited for.
fn runs(pid: u32) -> bool {
    let state = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output();
    state.is_ok_and(|output| matches!(output.stdout.first(), Some(byte) if *byte != b'Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_to_end_and_waited_for() {
        let sleeps = || {
            Command::new("sleep")
                .arg("1000")
                .spawn()
                .expect("it starts")
        };
        let (mut server, mut other) = (sleeps(), sleeps());
        begins(server.id());
        assert!(runs(server.id()));
        end_servers(SIGTERM);
        assert!(!runs(server.id()), "it has ended before this returns");
        assert!(runs(other.id()), "nobody else is told");
        ended(server.id());
        other.kill().expect("ours");
        let _ = (server.wait(), other.wait());
        assert!(servers(|pids| pids.is_empty()));
    }
}
