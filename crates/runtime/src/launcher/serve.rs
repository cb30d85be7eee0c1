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
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions},
};

use super::{
    cgroups::{self, Cgroups, Group},
    command::{Command, Exit, Signal},
    forks::Forks,
    frame::{self, Ask, Receiver, Say},
    limits::Enforcement,
    os,
    record::{Identity, Record},
    rules::{self, Rules},
    spares::{Spares, Which},
    spawn::{self, Spawned},
};

/// When a group that could not be removed is tried again.
const SOON: Duration = Duration::from_millis(10);

/// After so long without a start, something is made ahead for the next ones: one that is under way does not share the
/// machine with that.
const QUIET: Duration = Duration::from_millis(100);

/// How often that is done before the launcher ends; what is left then is for the next sweep.
const ATTEMPTS: usize = 50;

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
    let mount = std::env::args_os().nth(3).map(PathBuf::from);
    // Whoever waits for an instance waits for this process; what it starts has turns of the usual length.
    spawn::take_turns(true);
    os::adopt_orphans();
    let me = Identity::of(rustix::process::getpid().as_raw_pid());
    let me = me.ok_or(io::ErrorKind::NotFound)?;
    let server = rustix::process::getppid().map_or(0, |pid| pid.as_raw_pid().unsigned_abs());
    let groups = Cgroups::find(
        mount
            .as_deref()
            .unwrap_or_else(|| Path::new(cgroups::MOUNT)),
    );
    let groups = groups.keep_usable(&me.mark(0), server);
    let mut server = Server {
        me,
        record: Record::create(&record, me, groups.folders())?,
        enforcement: rules::enforcement(&groups),
        groups,
        receiver: Receiver::new(socket),
        ends: spawn::listen_to_signals()?,
        instances: BTreeMap::new(),
        remains: Vec::new(),
        forks: Forks::default(),
        spares: Spares::default(),
        started: now(),
    };
    let enforcement = server.enforcement;
    server.say(&Say::Ready { enforcement }, &[])?;
    let served = server.serve();
    server.kill_everything();
    served
}

#[allow(
    clippy::disallowed_methods,
    reason = "a process of its own, which no test's clock reaches"
)]
fn now() -> Instant {
    Instant::now()
}

pub(super) struct Server {
    pub(super) me: Identity,
    record: Record,
    receiver: Receiver,
    /// Becomes readable when a child may have ended.
    ends: io::PipeReader,
    pub(super) instances: BTreeMap<u64, Instance>,
    pub(super) groups: Cgroups,
    pub(super) enforcement: Enforcement,
    /// Groups of ended instances that the kernel does not give up yet.
    pub(super) remains: Vec<Group>,
    /// Templates, and what is being made of them.
    pub(super) forks: Forks,
    /// What waits to become an instance.
    pub(super) spares: Spares,
    /// When a start was asked for last.
    started: Instant,
}

/// Whose socket has something.
#[derive(Debug, Clone, Copy)]
enum Heard {
    Template(u64),
    Fork(u64),
    Spare(Which),
}

/// What there is to do.
struct Work {
    asked: bool,
    ended: bool,
    heard: Vec<Heard>,
}

/// What runs: its first process, and its group where it has one.
pub(super) struct Instance {
    pub(super) leader: Pid,
    pub(super) group: Option<Group>,
}

impl Server {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let Work {
                asked,
                ended,
                heard,
            } = self.wait()?;
            for heard in &heard {
                self.hear(*heard)?;
            }
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
                self.placed()?;
                self.collect_orphans();
            }
            self.collect_groups();
            if !asked && !ended && heard.is_empty() {
                self.make_ahead();
            }
        }
    }

    /// Waits until a socket has something, a child has ended, or there is time to make something ahead.
    fn wait(&mut self) -> io::Result<Work> {
        let templates = self.forks.templates();
        let forks = self.forks.begun();
        let spares = self.spares.speakers();
        let speakers: Vec<(Heard, &UnixStream)> = templates
            .map(|(id, socket)| (Heard::Template(id), socket))
            .chain(forks.map(|(number, socket)| (Heard::Fork(number), socket)))
            .chain(spares.map(|(which, socket)| (Heard::Spare(which), socket)))
            .collect();
        let mut fds = vec![
            PollFd::new(self.receiver.stream(), PollFlags::IN),
            PollFd::new(&self.ends, PollFlags::IN),
        ];
        let sockets = speakers.iter().map(|(_, socket)| *socket);
        fds.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
        // The kernel may hold on to a group for a moment after the last process of it was waited for.
        let remains = (!self.remains.is_empty()).then_some(SOON);
        let until = self.due_ahead().into_iter().chain(remains).min();
        let until = until.and_then(|until| Timespec::try_from(until).ok());
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, until.as_ref()))?;
        let spoke: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (asked, ended) = (spoke[0], spoke[1]);
        let heard = speakers.into_iter().zip(&spoke[2..]);
        let heard = heard.filter(|(_, spoke)| **spoke);
        let heard = heard.map(|((who, _), _)| who).collect();
        if ended {
            // How many ends there were is not asked: all children are looked at.
            let _ = self.ends.read(&mut [0; 256])?;
        }
        Ok(Work {
            asked,
            ended,
            heard,
        })
    }

    fn hear(&mut self, heard: Heard) -> io::Result<()> {
        match heard {
            Heard::Template(id) => self.hear_template(id),
            Heard::Fork(number) => self.hear_fork(number),
            Heard::Spare(which) => self.hear_spare(which),
        }
    }

    /// How long until something is to be made ahead.
    fn due_ahead(&self) -> Option<Duration> {
        if self.spares.are_short() || self.forks.are_short() {
            return Some(Duration::ZERO);
        }
        let lack = self.spares.lack() || self.forks.lack();
        lack.then(|| QUIET.saturating_sub(self.started.elapsed()))
    }

    fn make_ahead(&mut self) {
        if self.due_ahead() != Some(Duration::ZERO) {
            return;
        }
        if self.spares.lack() {
            self.refill_spares();
        } else {
            self.fork_ahead();
        }
    }

    fn answer(&mut self, ask: Ask) -> io::Result<()> {
        if !matches!(ask, Ask::Signal { .. }) {
            self.started = now();
        }
        match ask {
            Ask::Spawn { id, command } => self.spawn(id, command),
            Ask::Fork {
                id,
                template,
                command,
            } => self.fork(id, template, command),
            Ask::Assign { id, command } => self.assign(id, &command),
            Ask::Signal { id, signal } => {
                if let Some(instance) = self.instances.get(&id) {
                    kill_group(instance.leader, signal);
                }
                Ok(())
            }
        }
    }

    fn spawn(&mut self, id: u64, command: Command) -> io::Result<()> {
        // A template is in a group from its beginning, although nothing limits it: an instance made of it may be there.
        let grouped = match command.template {
            true => !self.groups.is_empty(),
            false => self.groups.hold(&command.limits),
        };
        if grouped {
            return match self.call(id, command) {
                Ok(()) => Ok(()),
                Err(error) => self.failed(id, &error),
            };
        }
        match self.try_to_spawn(id, &command) {
            Ok(mut spawned) => {
                if let Some(control) = spawned.control.take() {
                    self.forks.add(id, control, command.forks);
                }
                let pipes = [&spawned.stdout, &spawned.stderr];
                self.started(id, spawned.pid, pipes, None)
            }
            Err(error) => self.failed(id, &error),
        }
    }

    pub(super) fn failed(&self, id: u64, error: &io::Error) -> io::Result<()> {
        let missing = error.kind() == io::ErrorKind::NotFound;
        self.say_failed(id, missing, error.to_string())
    }

    pub(super) fn say_failed(&self, id: u64, missing: bool, reason: String) -> io::Result<()> {
        let failed = Say::Failed {
            id,
            missing,
            reason,
        };
        self.say(&failed, &[])
    }

    /// Starts what no group holds.
    fn try_to_spawn(&self, id: u64, command: &Command) -> io::Result<Spawned> {
        let rules = Rules::new(id, &command.limits, &self.enforcement);
        spawn::spawn(command, &self.me.mark(id), rules)
    }

    pub(super) fn started(
        &mut self,
        id: u64,
        leader: Pid,
        pipes: [&OwnedFd; 2],
        mut group: Option<Group>,
    ) -> io::Result<()> {
        group.iter_mut().for_each(Group::close);
        self.instances.insert(id, Instance { leader, group });
        // One that has already ended needs no record.
        if let Some(identity) = Identity::of(leader.as_raw_pid()) {
            self.record.add(identity)?;
        }
        let started = Say::Started {
            id,
            pid: leader.as_raw_pid().unsigned_abs(),
        };
        self.say(&started, &pipes)
    }

    fn collect(&mut self) -> io::Result<()> {
        let keep = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended: Vec<(u64, Exit)> = self
            .instances
            .iter()
            .filter_map(|(&id, instance)| {
                let leader = WaitId::Pid(instance.leader);
                let status = rustix::process::waitid(leader, keep).ok()??;
                Some((id, exit_of(&status)))
            })
            .collect();
        for (id, mut exit) in ended {
            let Some(Instance { leader, group }) = self.instances.remove(&id) else {
                continue;
            };
            let forks = self.forks.remove(id);
            self.end_forks(forks);
            kill_group(leader, Signal::Kill);
            let _ = rustix::process::waitpid(Some(leader), WaitOptions::NOHANG);
            if let Some(group) = group {
                exit.out_of_memory = !exit.success() && group.ran_out_of_memory();
                self.remains.push(group);
            }
            self.record.remove(leader.as_raw_pid())?;
            self.say(&Say::Exited { id, exit }, &[])?;
        }
        Ok(())
    }

    /// Kills what is left in the groups of ended instances, and removes those that are empty.
    fn collect_groups(&mut self) {
        self.remains.retain_mut(|group| {
            for pid in group.processes().into_iter().filter_map(Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            !group.remove()
        });
    }

    /// Waits for adopted processes that ended, and kills those whose instance has.
    fn collect_orphans(&self) {
        let mut children = os::children();
        let leaders = self.instances.values().map(|instance| instance.leader);
        let ours = leaders.chain(self.spares.pids()).chain(self.forks.movers());
        for pid in ours {
            children.remove(&pid.as_raw_pid());
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
        for instance in self.instances.values() {
            kill_group(instance.leader, Signal::Kill);
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
        let groups = std::mem::take(&mut self.instances).into_values();
        self.remains
            .extend(groups.filter_map(|instance| instance.group));
        self.remains
            .extend(std::mem::take(&mut self.spares).into_groups());
        self.remains
            .extend(std::mem::take(&mut self.forks).into_groups());
        for _ in 0..ATTEMPTS {
            self.collect_groups();
            if self.remains.is_empty() {
                break;
            }
            let soon = Timespec::try_from(SOON).ok();
            let _ = rustix::event::poll(&mut [], soon.as_ref());
        }
    }

    pub(super) fn say(&self, message: &Say, fds: &[&OwnedFd]) -> io::Result<()> {
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        frame::send(self.receiver.stream(), &frame::encode(message)?, &fds)
    }
}

pub(super) fn kill_group(leader: Pid, signal: Signal) {
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
        out_of_memory: false,
    }
}
