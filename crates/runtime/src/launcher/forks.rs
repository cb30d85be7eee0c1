//! Templates as the launcher has them: processes that have booted and wait, and instances that are made of them.
//!
//! A template is asked through its standard input. It either forks for each instance, or becomes the one instance
//! itself. What a fork may take is imposed on it from here, before it learns who it is: it begins as nobody, says its
//! process id, and waits. A fork is the launcher's own child: its parent ended, and the launcher adopts orphans.
//! To place it into its group takes a grace period of the kernel, so another process does that, and a fork or a few are
//! made and placed ahead.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::process::{Pid, WaitId, WaitIdOptions};
use serde::Serialize;

use super::{
    MARK,
    cgroups::Group,
    command::{Command, PATIENCE, Signal},
    frame::{self, Say},
    rules::Rules,
    serve::{Server, kill_group},
    spawn,
};

/// Forks of a template that are made ahead, where starts come so fast after one another that fewer are not enough.
const MOST: usize = 4;

/// Templates and unfinished forks: those by the number of their instance, these by one of their own.
#[derive(Default)]
pub(super) struct Forks {
    templates: BTreeMap<u64, Template>,
    begun: BTreeMap<u64, Fork>,
    made: u64,
}

struct Template {
    control: UnixStream,
    is_warm: bool,
    /// How many forks of it are to be made ahead.
    ahead: usize,
}

/// A fork that is no instance yet.
pub(super) struct Fork {
    template: u64,
    link: UnixStream,
    stdout: OwnedFd,
    stderr: OwnedFd,
    /// Which instance it is to be; nobody asked yet for what is made ahead.
    wanted: Option<(u64, Command)>,
    stage: Stage,
}

enum Stage {
    /// It has not said its process id.
    Asked,
    /// `mover` places it into its group.
    Moving { pid: Pid, group: Group, mover: Pid },
    /// It waits to be told who it is.
    There { pid: Pid, group: Option<Group> },
}

/// What a process learns of itself: all that [`Command`] gives to one that is started.
#[derive(Serialize)]
struct Who<'a> {
    env: Vec<(&'a str, &'a str)>,
    cwd: &'a std::path::Path,
}

impl Forks {
    /// There is one more template.
    pub(super) fn add(&mut self, id: u64, control: UnixStream, forks: bool) {
        let template = Template {
            control,
            is_warm: false,
            ahead: usize::from(forks),
        };
        self.templates.insert(id, template);
    }

    /// A process has ended that may have been a template: it, and what nobody wants of what it has forked.
    pub(super) fn remove(&mut self, id: u64) -> Vec<Fork> {
        self.templates.remove(&id);
        let unwanted = |_: &u64, fork: &mut Fork| fork.template == id && fork.wanted.is_none();
        let unwanted = self.begun.extract_if(.., unwanted);
        unwanted.map(|(_, fork)| fork).collect()
    }

    /// Templates that have not said that they are ready.
    pub(super) fn templates(&self) -> impl Iterator<Item = (u64, &UnixStream)> {
        let cold = self.templates.iter().filter(|(_, one)| !one.is_warm);
        cold.map(|(id, one)| (*id, &one.control))
    }

    /// Forks that are no instances yet.
    pub(super) fn begun(&self) -> impl Iterator<Item = (u64, &UnixStream)> {
        let begun = self.begun.iter();
        begun.map(|(number, fork)| (*number, &fork.link))
    }

    /// Processes that place forks.
    pub(super) fn movers(&self) -> impl Iterator<Item = Pid> {
        self.begun.values().filter_map(|fork| match fork.stage {
            Stage::Moving { mover, .. } => Some(mover),
            Stage::Asked | Stage::There { .. } => None,
        })
    }

    /// Whether a fork is to be made ahead.
    pub(super) fn lack(&self) -> bool {
        self.lacking().is_some()
    }

    /// Whether starts of a template follow each other so fast that no fork of it waits.
    pub(super) fn are_short(&self) -> bool {
        let mut templates = self.templates.iter();
        templates
            .any(|(id, one)| one.is_warm && one.ahead > 1 && self.spares_of(*id).next().is_none())
    }

    /// The template of which a fork is to be made ahead.
    fn lacking(&self) -> Option<u64> {
        let has = |id: u64| self.spares_of(id).count();
        let mut templates = self.templates.iter();
        let lacking = templates.find(|(id, one)| one.is_warm && has(**id) < one.ahead);
        lacking.map(|(id, _)| *id)
    }

    /// The forks of a template that nobody wants yet, the oldest first.
    fn spares_of(&self, template: u64) -> impl Iterator<Item = (u64, &Fork)> {
        let begun = self.begun.iter().map(|(number, fork)| (*number, fork));
        begun.filter(move |(_, fork)| fork.template == template && fork.wanted.is_none())
    }

    /// Asks a template for a fork; its number.
    fn ask(&mut self, id: u64) -> io::Result<u64> {
        let gone = || io::Error::other("its template is gone");
        let template = self.templates.get(&id).ok_or_else(gone)?;
        let (link, theirs) = UnixStream::pair()?;
        let (stdout, out) = io::pipe()?;
        let (stderr, err) = io::pipe()?;
        template.control.set_write_timeout(Some(PATIENCE))?;
        let fds = [theirs.as_fd(), out.as_fd(), err.as_fd()];
        frame::send(&template.control, b"f", &fds)?;
        self.made += 1;
        let fork = Fork {
            template: id,
            link,
            stdout: stdout.into(),
            stderr: stderr.into(),
            wanted: None,
            stage: Stage::Asked,
        };
        self.begun.insert(self.made, fork);
        Ok(self.made)
    }

    /// All groups, when the launcher ends.
    pub(super) fn into_groups(self) -> impl Iterator<Item = Group> {
        self.begun.into_values().filter_map(Fork::into_group)
    }
}

impl Fork {
    const fn pid(&self) -> Option<Pid> {
        match self.stage {
            Stage::Asked => None,
            Stage::Moving { pid, .. } | Stage::There { pid, .. } => Some(pid),
        }
    }

    fn into_group(self) -> Option<Group> {
        match self.stage {
            Stage::Asked => None,
            Stage::Moving { group, .. } => Some(group),
            Stage::There { group, .. } => group,
        }
    }
}

impl Server {
    /// Makes the instance `id` by a fork of `template`: the one that was made ahead, or another.
    pub(super) fn fork(&mut self, id: u64, template: u64, command: Command) -> io::Result<()> {
        let spare = self.forks.spares_of(template).next();
        let is_there = spare.is_some_and(|(_, fork)| matches!(fork.stage, Stage::There { .. }));
        let number = match spare.map(|(number, _)| number) {
            Some(number) => number,
            None => match self.forks.ask(template) {
                Ok(number) => number,
                Err(error) => return self.failed(id, &error),
            },
        };
        if let Some(template) = self.forks.templates.get_mut(&template)
            && template.ahead > 0
            && !is_there
        {
            template.ahead = (template.ahead + 1).min(MOST);
        }
        if let Some(fork) = self.forks.begun.get_mut(&number) {
            fork.wanted = Some((id, command));
        }
        self.go_on(number)
    }

    /// Makes a fork ahead where one lacks, to be called when nobody waits for anything.
    pub(super) fn fork_ahead(&mut self) {
        let Some(id) = self.forks.lacking() else {
            return;
        };
        let asked = self.forks.ask(id);
        if let (Err(_), Some(template)) = (asked, self.forks.templates.get_mut(&id)) {
            // What is asked for next says why.
            template.ahead = 0;
        }
    }

    /// A template has one thing to say: that it is ready.
    pub(super) fn hear_template(&mut self, id: u64) -> io::Result<()> {
        let Some(template) = self.forks.templates.get_mut(&id) else {
            return Ok(());
        };
        if !matches!(template.control.read(&mut [0]), Ok(1)) {
            // Its end will be noticed as any other's.
            let forks = self.forks.remove(id);
            self.end_forks(forks);
            return Ok(());
        }
        template.is_warm = true;
        self.say(&Say::Warm { id }, &[])
    }

    /// A fork says its process id, or has ended.
    pub(super) fn hear_fork(&mut self, number: u64) -> io::Result<()> {
        let Some(mut fork) = self.forks.begun.remove(&number) else {
            return Ok(());
        };
        let moving = match fork.stage {
            Stage::Asked => self
                .said_pid(&fork.link)
                .and_then(|pid| self.place(number, pid)),
            _ => Err(io::Error::other("it has ended before it began")),
        };
        match moving {
            Ok(stage) => {
                fork.stage = stage;
                self.forks.begun.insert(number, fork);
                self.go_on(number)
            }
            Err(error) => self.give_up(fork, &error),
        }
    }

    /// Looks whether forks were placed.
    pub(super) fn placed(&mut self) -> io::Result<()> {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let moving: Vec<(u64, Pid)> = self
            .forks
            .begun
            .iter()
            .filter_map(|(number, fork)| match fork.stage {
                Stage::Moving { mover, .. } => Some((*number, mover)),
                Stage::Asked | Stage::There { .. } => None,
            })
            .collect();
        for (number, mover) in moving {
            let Ok(Some(status)) = rustix::process::waitid(WaitId::Pid(mover), ended) else {
                continue;
            };
            let Some(mut fork) = self.forks.begun.remove(&number) else {
                continue;
            };
            fork.stage = match fork.stage {
                Stage::Moving { pid, group, .. } => Stage::There {
                    pid,
                    group: Some(group),
                },
                other => other,
            };
            if status.exit_status() != Some(0) {
                let error = io::Error::other("it cannot be placed into its control group");
                self.give_up(fork, &error)?;
                continue;
            }
            self.forks.begun.insert(number, fork);
            self.go_on(number)?;
        }
        Ok(())
    }

    /// Makes an instance of a fork, if it is there and somebody wants it.
    fn go_on(&mut self, number: u64) -> io::Result<()> {
        let is_next = |_: &u64, fork: &mut Fork| {
            matches!(fork.stage, Stage::There { .. }) && fork.wanted.is_some()
        };
        let next = self.forks.begun.extract_if(number..=number, is_next).next();
        let Some((
            _,
            Fork {
                link,
                stdout,
                stderr,
                wanted: Some((id, command)),
                stage: Stage::There { pid, group },
                ..
            },
        )) = next
        else {
            return Ok(());
        };
        match self.introduce(id, (pid, group.as_ref()), &link, &command) {
            Ok(()) => self.started(id, pid, [&stdout, &stderr], group),
            Err(error) => {
                kill_group(pid, Signal::Kill);
                self.remains.extend(group);
                self.failed(id, &error)
            }
        }
    }

    /// Begins to place a fork into a group of its own.
    fn place(&self, number: u64, pid: Pid) -> io::Result<Stage> {
        let mark = self.me.mark_of_fork(number);
        let Some(mut group) = self.groups.make(&mark)? else {
            return Ok(Stage::There { pid, group: None });
        };
        let placed = || group.place(pid.as_raw_pid()).is_ok();
        match spawn::fork_with(placed) {
            Ok(mover) => Ok(Stage::Moving { pid, group, mover }),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    fn give_up(&mut self, mut fork: Fork, error: &io::Error) -> io::Result<()> {
        let wanted = fork.wanted.take();
        if let (None, Some(template)) = (&wanted, self.forks.templates.get_mut(&fork.template)) {
            // The next would most likely end the same way.
            template.ahead = 0;
        }
        self.end_forks(vec![fork]);
        match wanted {
            Some((id, _)) => self.failed(id, error),
            None => Ok(()),
        }
    }

    /// Ends what was forked and is no instance.
    pub(super) fn end_forks(&mut self, forks: Vec<Fork>) {
        for fork in forks {
            if let Some(pid) = fork.pid() {
                kill_group(pid, Signal::Kill);
            }
            self.remains.extend(fork.into_group());
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
        let assigned = template.and_then(|template| {
            let known = self.instances.get(&id).ok_or_else(gone)?;
            let process = (known.leader, known.group.as_ref());
            self.introduce(id, process, &template.control, command)
        });
        match assigned {
            Ok(()) => self.say(&Say::Assigned { id }, &[]),
            Err(error) => self.failed(id, &error),
        }
    }

    /// Imposes limits on a process that waits on `link`, and on its group, then tells it who it is.
    fn introduce(
        &self,
        id: u64,
        (pid, group): (Pid, Option<&Group>),
        mut link: &UnixStream,
        command: &Command,
    ) -> io::Result<()> {
        if let Some(group) = group {
            self.groups.limit(group, &command.limits)?;
        }
        Rules::new(id, &command.limits, &self.enforcement).impose(pid)?;
        let mark = self.me.mark(id);
        let env = command.env.iter();
        let env = env.map(|(name, value)| (name.as_str(), value.as_str()));
        let who = Who {
            // First: of an environment that is too long for its place, the end is not seen from outside.
            env: std::iter::once((MARK, &*mark)).chain(env).collect(),
            cwd: &command.cwd,
        };
        link.set_write_timeout(Some(PATIENCE))?;
        link.write_all(&frame::encode(&who)?)
    }
}
