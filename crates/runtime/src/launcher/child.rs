//! An instance that the launcher started, in the hands of whoever asked for it.

use std::io;

use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{
    command::{Exit, Signal},
    link::Started,
};

/// How much is kept of what a template says before it ends.
const LAST_WORDS: u64 = 4096;

/// A running instance. Dropping it kills all of its processes.
pub struct Child {
    /// The id of its first process, which leads its group and session.
    pub pid: u32,
    /// What it writes to standard output; whoever reads it takes it. Ends when no process of it has it open.
    pub stdout: Option<pipe::Receiver>,
    /// The same of standard error.
    pub stderr: Option<pipe::Receiver>,
    started: Started,
}

impl Child {
    /// Registers the pipes with the runtime that this is called in.
    pub(super) fn new(mut started: Started) -> io::Result<Self> {
        let pipe = |fd: Option<_>| fd.map(pipe::Receiver::from_owned_fd).transpose();
        Ok(Self {
            pid: started.pid,
            stdout: pipe(started.stdout.take())?,
            stderr: pipe(started.stderr.take())?,
            started,
        })
    }

    /// Sends a signal to all processes of its group; to nobody once it has ended.
    pub fn signal_group(&self, signal: Signal) {
        self.started.signal(signal);
    }

    /// Resolves when its first process has ended; what it left behind in its group was then killed. Any number of
    /// these may be waited for, in any runtime, also after the end.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + 'static {
        let mut exit = self.started.exit.clone();
        async move {
            match exit.wait_for(Option::is_some).await {
                Ok(exit) => exit.unwrap_or(Exit::KILLED),
                Err(_) => Exit::KILLED,
            }
        }
    }

    /// The end of what it wrote to standard error, once it has ended.
    pub(super) async fn last_words(&mut self) -> String {
        let mut said = Vec::new();
        if let Some(stderr) = self.stderr.as_mut() {
            let _ = stderr.take(LAST_WORDS).read_to_end(&mut said).await;
        }
        let exit = self.exited().await;
        format!("{exit}: {}", String::from_utf8_lossy(&said).trim_end())
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        *self.started.exit.borrow()
    }
}
