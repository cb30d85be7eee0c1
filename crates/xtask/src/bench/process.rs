//! Processes of peers: started with an emptied environment, ended when dropped.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::shell;

const STARTS_WITHIN: Duration = Duration::from_secs(20);
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A peer that serves.
pub(super) struct Peer {
    process: Child,
    pub(super) address: SocketAddr,
}

/// A command that sees nothing of this terminal's environment but where programs are.
pub(super) fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    shell::clean(&mut command).stdin(Stdio::null());
    command
}

/// An address that was free a moment ago.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Peer {
    /// Starts it and waits until it listens at `address`.
    pub(super) fn start(command: &mut Command, address: SocketAddr) -> anyhow::Result<Self> {
        let process = command
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{} does not start", command.get_program().display()))?;
        let mut peer = Self { process, address };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = peer.process.try_wait()? {
                bail!("{} ended with {status}", command.get_program().display());
            }
            if start.elapsed() > STARTS_WITHIN {
                bail!(
                    "{} does not listen at {address}",
                    command.get_program().display()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }

    /// The id of its process.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Ends a process that we started: asked first, since nginx ends its workers on TERM and leaves them on KILL.
pub(super) fn end(process: &mut Child) {
    let pid = process.id().to_string();
    let _ = Command::new("kill").args(["-TERM", &pid]).status();
    let start = Instant::now();
    while matches!(process.try_wait(), Ok(None)) && start.elapsed() < ENDS_WITHIN {
        thread::sleep(Duration::from_millis(20));
    }
    let _ = process.kill();
    let _ = process.wait();
}
