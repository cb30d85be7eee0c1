//! Templates as the launcher has them: processes that have booted and wait, and instances that are made of them.
//!
//! A template is asked through its standard input. It either forks for each instance, or becomes the one instance
//! itself. What a fork may take is imposed on it from here, before it learns who it is: it begins as nobody, says its
//! process id, and waits. A fork is the launcher's own child: its parent ended, and the launcher adopts orphans.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::process::{Pid, WaitId, WaitIdOptions};
use serde::Serialize;

use super::{
    MARK,
    cgroups::Group,
    command::{Command, Signal},
    frame::{self, Say},
    rules::Rules,
    serve::{Instance, Server, kill_group},
};

/// How long a process that waits for nothing else may take to read who it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// Templates and unfinished forks, by the number of their instance.
#[derive(Default)]
pub(super) struct Forks {
    templates: BTreeMap<u64, Template>,
    begun: BTreeMap<u64, Fork>,
}

struct Template {
    control: UnixStream,
    is_warm: bool,
}

/// A fork that was asked for and has not said its process id yet.
struct Fork {
    link: UnixStream,
    command: Command,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Whose socket has something.
#[derive(Debug, Clone, Copy)]
pub(super) enum Heard {
    Template(u64),
    Fork(u64),
}

/// What a process learns of itself: all that [`Command`] gives to one that is started.
#[derive(Serialize)]
struct Who<'a> {
    env: Vec<(&'a str, &'a str)>,
    cwd: &'a std::path::Path,
}

impl Forks {
    /// There is one more template.
    pub(super) fn add(&mut self, id: u64, control: UnixStream) {
        let is_warm = false;
        self.templates.insert(id, Template { control, is_warm });
    }

    /// A process has ended that may have been a template.
    pub(super) fn remove(&mut self, id: u64) {
        self.templates.remove(&id);
    }

    /// Sockets that are listened to.
    pub(super) fn speakers(&self) -> Vec<(Heard, &UnixStream)> {
        let templates = self.templates.iter().filter(|(_, one)| !one.is_warm);
        let templates = templates.map(|(id, one)| (Heard::Template(*id), &one.control));
        let forks = self.begun.iter();
        templates
            .chain(forks.map(|(id, fork)| (Heard::Fork(*id), &fork.link)))
            .collect()
    }

    /// Asks a template for a fork.
    pub(super) fn begin(&mut self, id: u64, template: u64, command: Command) -> io::Result<()> {
        let gone = || io::Error::other("its template is gone");
        let template = self.templates.get(&template).ok_or_else(gone)?;
        let (link, theirs) = UnixStream::pair()?;
        let (stdout, out) = io::pipe()?;
        let (stderr, err) = io::pipe()?;
        template.control.set_write_timeout(Some(PATIENCE))?;
        let fds = [theirs.as_fd(), out.as_fd(), err.as_fd()];
        frame::send(&template.control, b"f", &fds)?;
        let fork = Fork {
            link,
            command,
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        self.begun.insert(id, fork);
        Ok(())
    }
}

impl Server {
    pub(super) fn hear(&mut self, heard: Heard) -> io::Result<()> {
        match heard {
            Heard::Template(id) => self.hear_template(id),
            Heard::Fork(id) => self.hear_fork(id),
        }
    }

    /// A template has one thing to say: that it is ready.
    fn hear_template(&mut self, id: u64) -> io::Result<()> {
        let Some(template) = self.forks.templates.get_mut(&id) else {
            return Ok(());
        };
        if !matches!(template.control.read(&mut [0]), Ok(1)) {
            // Its end will be noticed as any other's.
            self.forks.remove(id);
            return Ok(());
        }
        template.is_warm = true;
        self.say(&Say::Warm { id }, &[])
    }

    /// A fork says its process id, or has ended before it could.
    fn hear_fork(&mut self, id: u64) -> io::Result<()> {
        let Some(fork) = self.forks.begun.remove(&id) else {
            return Ok(());
        };
        let introduced = self.said_pid(&fork.link).and_then(|pid| {
            let group = self.introduce(id, pid, &fork.link, &fork.command);
            group
                .map(|group| (pid, group))
                .inspect_err(|_| kill_group(pid, Signal::Kill))
        });
        match introduced {
            Ok((pid, group)) => self.started(id, pid, [&fork.stdout, &fork.stderr], group),
            Err(error) => self.failed(id, &error),
        }
    }

    /// The process id that a fork says, when it is a child of this process, leads a session and is no instance yet.
    fn said_pid(&self, mut link: &UnixStream) -> io::Result<Pid> {
        let mut said = [0; 16];
        let length = link.read(&mut said)?;
        let said = std::str::from_utf8(&said[..length]).unwrap_or_default();
        let pid = said.trim_end().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the template does not fork"))?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        rustix::process::waitid(WaitId::Pid(pid), look)?;
        let leads = rustix::process::getsid(Some(pid))? == pid;
        let is_new = self.instances.values().all(|known| known.leader != pid);
        if leads && is_new {
            return Ok(pid);
        }
        Err(io::Error::other(
            "what the template forked is no process of its own",
        ))
    }

    /// Makes an instance of a template itself.
    pub(super) fn assign(&mut self, id: u64, command: &Command) -> io::Result<()> {
        let gone = || io::Error::other("its template is gone");
        let template = self.forks.templates.remove(&id).ok_or_else(gone);
        let leader = self.instances.get(&id).map(|known| known.leader);
        let group = template.and_then(|template| {
            let leader = leader.ok_or_else(gone)?;
            self.introduce(id, leader, &template.control, command)
        });
        match group {
            Ok(group) => {
                if let Some(Instance { group: own, .. }) = self.instances.get_mut(&id) {
                    self.remains.extend(std::mem::replace(own, group));
                }
                self.say(&Say::Assigned { id }, &[])
            }
            Err(error) => self.failed(id, &error),
        }
    }

    /// Imposes limits on a process that waits on `link`, then tells it who it is.
    fn introduce(
        &self,
        id: u64,
        pid: Pid,
        mut link: &UnixStream,
        command: &Command,
    ) -> io::Result<Option<Group>> {
        let (mark, limits) = (self.me.mark(id), &command.limits);
        let mut group = self.groups.make(&mark, limits)?;
        let mut obey = || {
            if let Some(group) = &group {
                group.place(pid.as_raw_pid())?;
            }
            Rules::new(id, limits, None, &self.enforcement)?.impose(pid)?;
            let env = command.env.iter();
            let env = env.map(|(name, value)| (name.as_str(), value.as_str()));
            let who = Who {
                // First: of an environment that is too long for its place, the end is not seen from outside.
                env: std::iter::once((MARK, &*mark)).chain(env).collect(),
                cwd: &command.cwd,
            };
            link.set_write_timeout(Some(PATIENCE))?;
            link.write_all(&frame::encode(&who)?)
        };
        match obey() {
            Ok(()) => Ok(group),
            Err(error) => {
                // What is in it still is killed by the caller; what the kernel holds on to is for the next sweep.
                group.as_mut().map(Group::remove);
                Err(error)
            }
        }
    }
}
