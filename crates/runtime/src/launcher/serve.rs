//! The launcher process itself: one thread, one loop over its socket and the ends of its instances.
//!
//! An ended instance is waited for only after its group was killed: until then its process id still names the group.
//! What escaped the group is adopted (Linux), recognised by its mark, and killed when its instance has ended.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::ExitCode,
};

use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions},
};

use super::{
    command::{Command, Exit, Signal},
    frame::{self, Ask, Receiver, Say},
    os,
    record::{Identity, Record},
    spawn::{self, Spawned},
};

/// Becomes the launcher: the socket is standard input, the record's path the last argument. Returns when all that it
/// started is dead. To be called first in `main`, before any thread, when the first argument is [`super::ARGUMENT`].
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tangelo launcher: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let record = std::env::args_os().nth(2).map(PathBuf::from);
    let record = record.ok_or(io::ErrorKind::InvalidInput)?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    os::adopt_orphans();
    let me = Identity::of(rustix::process::getpid().as_raw_pid());
    let me = me.ok_or(io::ErrorKind::NotFound)?;
    let mut server = Server {
        me,
        record: Record::create(&record, me)?,
        receiver: Receiver::new(socket),
        ends: spawn::listen_to_signals()?,
        instances: BTreeMap::new(),
    };
    server.say(&Say::Ready, &[])?;
    let served = server.serve();
    server.kill_everything();
    served
}

struct Server {
    me: Identity,
    record: Record,
    receiver: Receiver,
    /// Becomes readable when a child may have ended.
    ends: io::PipeReader,
    instances: BTreeMap<u64, Pid>,
}

impl Server {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let (asked, ended) = self.wait()?;
            if asked {
                if !self.receiver.fill()? {
                    return Ok(());
                }
                while let Some(ask) = self.receiver.take()? {
                    self.answer(ask)?;
                }
            }
            if ended {
                self.collect()?;
                self.collect_orphans();
            }
        }
    }

    /// Waits until the socket has something or a child has ended, and says which.
    fn wait(&mut self) -> io::Result<(bool, bool)> {
        let mut fds = [
            PollFd::new(self.receiver.stream(), PollFlags::IN),
            PollFd::new(&self.ends, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))?;
        let [asked, ended] = fds.map(|fd| !fd.revents().is_empty());
        if ended {
            // How many ends there were is not asked: all children are looked at.
            let _ = self.ends.read(&mut [0; 256])?;
        }
        Ok((asked, ended))
    }

    fn answer(&mut self, ask: Ask) -> io::Result<()> {
        match ask {
            Ask::Spawn { id, command } => self.spawn(id, &command),
            Ask::Signal { id, signal } => {
                if let Some(&leader) = self.instances.get(&id) {
                    kill_group(leader, signal);
                }
                Ok(())
            }
        }
    }

    fn spawn(&mut self, id: u64, command: &Command) -> io::Result<()> {
        match spawn::spawn(command, &self.me.mark(id)) {
            Ok(spawned) => self.started(id, &spawned),
            Err(error) => {
                let failed = Say::Failed {
                    id,
                    missing: error.kind() == io::ErrorKind::NotFound,
                    reason: error.to_string(),
                };
                self.say(&failed, &[])
            }
        }
    }

    fn started(&mut self, id: u64, spawned: &Spawned) -> io::Result<()> {
        let pid = spawned.pid;
        self.instances.insert(id, pid);
        // One that has already ended needs no record.
        if let Some(identity) = Identity::of(pid.as_raw_pid()) {
            self.record.add(identity)?;
        }
        let started = Say::Started {
            id,
            pid: pid.as_raw_pid().unsigned_abs(),
        };
        self.say(&started, &[&spawned.stdout, &spawned.stderr])
    }

    fn collect(&mut self) -> io::Result<()> {
        let keep = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended: Vec<(u64, Pid, Exit)> = self
            .instances
            .iter()
            .filter_map(|(&id, &pid)| {
                let status = rustix::process::waitid(WaitId::Pid(pid), keep).ok()??;
                Some((id, pid, exit_of(&status)))
            })
            .collect();
        for (id, pid, exit) in ended {
            kill_group(pid, Signal::Kill);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
            self.instances.remove(&id);
            self.record.remove(pid.as_raw_pid())?;
            self.say(&Say::Exited { id, exit }, &[])?;
        }
        Ok(())
    }

    /// Waits for adopted processes that ended, and kills those whose instance has.
    fn collect_orphans(&self) {
        let mut children = os::children();
        for instance in self.instances.values() {
            children.remove(&instance.as_raw_pid());
        }
        for pid in children.into_iter().filter_map(Pid::from_raw) {
            let ended = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
            if matches!(ended, Ok(None)) && !self.wants_orphan(pid) {
                // Its end announces itself and brings us back here, for its own children.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    fn wants_orphan(&self, pid: Pid) -> bool {
        let mark = os::mark_of(pid.as_raw_pid());
        match mark.and_then(|mark| self.me.instance_of(&mark)) {
            Some(id) => self.instances.contains_key(&id),
            None => !self.instances.is_empty(),
        }
    }

    /// Kills all instances and waits until no descendant is left.
    fn kill_everything(&mut self) {
        for &leader in self.instances.values() {
            kill_group(leader, Signal::Kill);
        }
        // A killed parent's children are adopted and found in the next round.
        loop {
            for child in os::children() {
                if let Some(pid) = Pid::from_raw(child) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            if let Err(error) = rustix::process::wait(WaitOptions::empty())
                && error != rustix::io::Errno::INTR
            {
                break;
            }
        }
    }

    fn say(&self, message: &Say, fds: &[&OwnedFd]) -> io::Result<()> {
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        frame::send(self.receiver.stream(), &frame::encode(message)?, &fds)
    }
}

fn kill_group(leader: Pid, signal: Signal) {
    let signal = match signal {
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
    };
    let _ = rustix::process::kill_process_group(leader, signal);
}

fn exit_of(status: &WaitIdStatus) -> Exit {
    Exit {
        code: status.exit_status(),
        signal: status.terminating_signal(),
    }
}
