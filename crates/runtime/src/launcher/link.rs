//! One launcher process as its server sees it: the socket, who waits for what, and a thread that reads.
//!
//! A thread, not a task: instances are started from several runtimes, and none of them may own the socket.

use std::{
    collections::HashMap,
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{self, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use rustix::process::Pid;
use tokio::sync::{oneshot, watch};

use super::{
    ARGUMENT, INSIDE,
    command::{Command, Error, Exit, Signal},
    frame::{self, Ask, Receiver, Say},
    limits::Enforcement,
    outgoing::Outgoing,
};

/// How long a new launcher may take to say that it is ready, on a machine that is busy.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The server's end of one launcher process.
pub(super) struct Link {
    pid: i32,
    pub(super) enforcement: Enforcement,
    outgoing: Arc<Outgoing>,
    waiting: Mutex<Waiting>,
    gone: watch::Sender<bool>,
}

#[derive(Default)]
struct Waiting {
    closed: bool,
    starts: HashMap<u64, Start<Started>>,
    exits: HashMap<u64, watch::Sender<Option<Exit>>>,
    /// Templates that are not ready.
    boots: HashMap<u64, oneshot::Sender<()>>,
    /// Templates that become instances.
    assigned: HashMap<u64, Start<()>>,
}

struct Start<T> {
    program: String,
    answer: oneshot::Sender<Result<T, Error>>,
}

/// An instance that runs. Dropping it kills its group, so none is lost between the threads and who asked for it.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    pub(super) exit: watch::Receiver<Option<Exit>>,
    id: u64,
    link: Arc<Link>,
}

impl Started {
    pub(super) fn signal(&self, signal: Signal) {
        self.link.signal(self.id, signal);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.exit.borrow().is_none() {
            self.signal(Signal::Kill);
        }
    }
}

impl Link {
    /// Starts `exe` as a launcher and waits until it is ready.
    ///
    /// Inside of a process that was itself started as a launcher this is refused: a program that does not know
    /// [`ARGUMENT`] would come here again in its copy, and the copy in its own, without end.
    pub(super) fn start(exe: &Path, record: &Path, cgroups: &Path) -> io::Result<Arc<Self>> {
        Self::start_within(exe, record, cgroups, READY_WITHIN)
    }

    fn start_within(
        exe: &Path,
        record: &Path,
        cgroups: &Path,
        within: Duration,
    ) -> io::Result<Arc<Self>> {
        if is_inside() {
            return Err(io::Error::other(
                "this process was started as a launcher and did not become one",
            ));
        }
        let (ours, theirs) = UnixStream::pair()?;
        let mut process = process::Command::new(exe)
            .arg(ARGUMENT)
            .arg(record)
            .arg(cgroups)
            .env_clear()
            .env(INSIDE, "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // Ctrl-C in a terminal goes to the foreground group: the server drains, so the launcher must not hear it.
            .process_group(0)
            .spawn()?;
        let mut receiver = Receiver::new(ours.try_clone()?);
        let ready = wait_until_ready(&mut receiver, within).inspect_err(|_| {
            // What it is, nobody knows: what it started in its group ends with it.
            if let Some(group) = Pid::from_raw(process.id().cast_signed()) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = process.wait();
        });
        let enforcement = ready.map_err(|error| not_a_launcher(exe, &error))?;
        let link = Arc::new(Self {
            pid: process.id().cast_signed(),
            enforcement,
            outgoing: Outgoing::new(ours),
            waiting: Mutex::default(),
            gone: watch::Sender::new(false),
        });
        let reader = Arc::clone(&link);
        thread("launcher-in", move || reader.read(receiver, process))?;
        Ok(link)
    }

    /// Its process.
    pub(super) const fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the process is gone, or was told to go.
    pub(super) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Asks for an instance. The answer may be dropped at any time: then the instance is killed.
    pub(super) fn spawn(
        &self,
        id: u64,
        command: Command,
    ) -> Result<oneshot::Receiver<Result<Started, Error>>, Error> {
        let program = command.program.display().to_string();
        self.start_one(id, program, &Ask::Spawn { id, command })
    }

    /// Asks for an instance as a fork of a template; the same holds.
    pub(super) fn fork(
        &self,
        id: u64,
        template: u64,
        command: Command,
    ) -> Result<oneshot::Receiver<Result<Started, Error>>, Error> {
        let program = command.program.display().to_string();
        let ask = Ask::Fork {
            id,
            template,
            command,
        };
        self.start_one(id, program, &ask)
    }

    fn start_one(
        &self,
        id: u64,
        program: String,
        ask: &Ask,
    ) -> Result<oneshot::Receiver<Result<Started, Error>>, Error> {
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.ask(&program, ask)?;
        waiting.starts.insert(id, Start { program, answer });
        Ok(answered)
    }

    /// Asks; the answer cannot come while what is returned is held.
    fn ask(&self, program: &str, ask: &Ask) -> Result<MutexGuard<'_, Waiting>, Error> {
        let bytes = frame::encode(ask).map_err(|error| Error::Refused {
            program: program.to_owned(),
            reason: format!("its arguments and environment are too large ({error})"),
        })?;
        let waiting = self.waiting.lock();
        if waiting.closed || !self.outgoing.send(bytes) {
            return Err(Error::Stopped);
        }
        Ok(waiting)
    }

    /// Resolves when the template `id` is ready; fails when it will not be.
    pub(super) fn warm(&self, id: u64) -> oneshot::Receiver<()> {
        let (warm, is_warm) = oneshot::channel();
        self.waiting.lock().boots.insert(id, warm);
        is_warm
    }

    /// Makes an instance of a template itself.
    pub(super) fn assign(
        &self,
        id: u64,
        command: Command,
        answer: oneshot::Sender<Result<(), Error>>,
    ) -> Result<(), Error> {
        let program = command.program.display().to_string();
        let mut waiting = self.ask(&program, &Ask::Assign { id, command })?;
        waiting.assigned.insert(id, Start { program, answer });
        Ok(())
    }

    /// Tells the launcher to kill everything and end; resolves when it has.
    pub(super) async fn close(&self) {
        let mut gone = self.gone.subscribe();
        self.hang_up();
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Tells the launcher to kill everything and end.
    pub(super) fn hang_up(&self) {
        self.waiting.lock().closed = true;
        self.outgoing.close();
    }

    fn signal(&self, id: u64, signal: Signal) {
        if let Ok(bytes) = frame::encode(&Ask::Signal { id, signal }) {
            self.outgoing.send(bytes);
        }
    }

    fn read(self: &Arc<Self>, mut receiver: Receiver, mut process: process::Child) {
        if let Err(error) = self.read_all(&mut receiver) {
            tracing::error!(%error, "the launcher's socket failed");
        }
        // Both ends close before the wait: a launcher that still works sees it and ends.
        let _ = receiver.stream().shutdown(std::net::Shutdown::Both);
        self.outgoing.close();
        let _ = process.wait();
        self.abandon();
    }

    fn read_all(self: &Arc<Self>, receiver: &mut Receiver) -> io::Result<()> {
        while receiver.fill()? {
            while let Some(said) = receiver.take()? {
                self.hear(said, receiver)?;
            }
        }
        Ok(())
    }

    fn hear(self: &Arc<Self>, said: Say, receiver: &mut Receiver) -> io::Result<()> {
        match said {
            Say::Ready { .. } => {}
            Say::Started { id, pid } => {
                let (stdout, stderr) = (receiver.take_fd()?, receiver.take_fd()?);
                self.started(id, pid, stdout, stderr);
            }
            Say::Failed {
                id,
                missing,
                reason,
            } => self.failed(id, missing, reason),
            Say::Warm { id } => {
                if let Some(warm) = self.waiting.lock().boots.remove(&id) {
                    let _ = warm.send(());
                }
            }
            Say::Assigned { id } => {
                if let Some(start) = self.waiting.lock().assigned.remove(&id) {
                    let _ = start.answer.send(Ok(()));
                }
            }
            Say::Exited { id, exit } => {
                self.waiting.lock().boots.remove(&id);
                if let Some(watcher) = self.waiting.lock().exits.remove(&id) {
                    watcher.send_replace(Some(exit));
                }
            }
        }
        Ok(())
    }

    fn started(self: &Arc<Self>, id: u64, pid: u32, stdout: OwnedFd, stderr: OwnedFd) {
        let (watcher, exit) = watch::channel(None);
        let started = Started {
            pid,
            stdout: Some(stdout),
            stderr: Some(stderr),
            exit,
            id,
            link: Arc::clone(self),
        };
        let start = {
            let mut waiting = self.waiting.lock();
            waiting.exits.insert(id, watcher);
            waiting.starts.remove(&id)
        };
        if let Some(start) = start {
            let _ = start.answer.send(Ok(started));
        }
    }

    fn failed(&self, id: u64, missing: bool, reason: String) {
        let mut waiting = self.waiting.lock();
        waiting.boots.remove(&id);
        let error = |program| {
            if missing {
                Error::NotFound(program)
            } else {
                Error::Refused { program, reason }
            }
        };
        if let Some(Start { program, answer }) = waiting.starts.remove(&id) {
            let _ = answer.send(Err(error(program)));
        } else if let Some(Start { program, answer }) = waiting.assigned.remove(&id) {
            let _ = answer.send(Err(error(program)));
        }
    }

    fn abandon(&self) {
        let (starts, exits) = {
            let mut waiting = self.waiting.lock();
            waiting.closed = true;
            // Who waits for these learns it from their being dropped.
            waiting.boots.clear();
            waiting.assigned.clear();
            (
                std::mem::take(&mut waiting.starts),
                std::mem::take(&mut waiting.exits),
            )
        };
        for start in starts.into_values() {
            let _ = start.answer.send(Err(Error::Stopped));
        }
        for watcher in exits.into_values() {
            watcher.send_replace(Some(Exit::KILLED));
        }
        self.gone.send_replace(true);
    }
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

fn not_a_launcher(exe: &Path, error: &io::Error) -> io::Error {
    let how = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ended".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "it did not say so in time".to_owned()
        }
        _ => error.to_string(),
    };
    let exe = exe.display();
    io::Error::new(
        error.kind(),
        format!(
            "{exe} did not become a launcher when it was started with the argument {ARGUMENT}: {how}"
        ),
    )
}

fn wait_until_ready(receiver: &mut Receiver, within: Duration) -> io::Result<Enforcement> {
    receiver.stream().set_read_timeout(Some(within))?;
    loop {
        if !receiver.fill()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(Say::Ready { enforcement }) = receiver.take()? {
            receiver.stream().set_read_timeout(None)?;
            return Ok(enforcement);
        }
    }
}

pub(super) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(256 << 10)
        .spawn(work)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_that_says_nothing_is_refused_in_time_and_ends_with_what_it_started() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (program, started) = (folder.path().join("silent"), folder.path().join("started"));
        let script = format!(
            "#!/bin/sh\nsleep 1000 &\necho $! > {}\nwait\n",
            started.display()
        );
        std::fs::write(&program, script).expect("written");
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&program, mode).expect("set");
        let within = Duration::from_millis(500);
        let (record, groups) = (
            folder.path().join("instances"),
            folder.path().join("groups"),
        );
        let link = Link::start_within(&program, &record, &groups, within);
        let error = link.err().expect("it is no launcher").to_string();
        assert!(error.contains("did not become a launcher"), "{error}");
        let pid = std::fs::read_to_string(&started).expect("it ran");
        let stat = format!("/proc/{}/stat", pid.trim());
        let runs = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z"));
        // It was killed; the system takes a moment to end it.
        for _ in 0..1_000_000 {
            if !runs() {
                return;
            }
            std::thread::yield_now();
        }
        panic!("{pid} still runs");
    }
}
