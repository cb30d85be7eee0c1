//! Spares: processes that have entered control groups of their own and wait for the program that they become.
//!
//! To enter a group is to wait for a grace period of the kernel, some 5 to 20 ms, and whoever waits for an instance
//! should not. So a few forks of the launcher do that ahead, while nobody waits; each becomes the program of one
//! instance, whose limits are set on the group by then. What is asked for when none is left waits with a new one.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    fs::File,
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::{
    cgroups::Group,
    command::{Command, PATIENCE, Signal},
    frame::{self, Receiver},
    limits::Enforcement,
    rules::Rules,
    serve::{Server, kill_group},
    spawn::{self, Forked},
};

/// Spares that wait, once one was of use.
const FEWEST: usize = 2;
/// The same where starts came so fast after one another that none was left.
const MOST: usize = 8;

/// Spares that wait, and those that were told what they are and have not become it yet, by the number of their instance.
#[derive(Default)]
pub(super) struct Spares {
    /// How many should wait; none before anything was started that is in groups.
    wanted: usize,
    made: u64,
    waiting: VecDeque<Spare>,
    becoming: BTreeMap<u64, Spare>,
}

struct Spare {
    process: Forked,
    group: Group,
}

/// What a spare is told.
#[derive(Serialize, Deserialize)]
struct Calling {
    id: u64,
    mark: String,
    command: Command,
    enforcement: Enforcement,
}

/// Why a spare did not become what it was told.
#[derive(Serialize, Deserialize)]
struct Failure {
    missing: bool,
    reason: String,
}

/// Which spare's socket has something.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    Waiting(Pid),
    Becoming(u64),
}

impl Spares {
    /// Sockets that are listened to.
    pub(super) fn speakers(&self) -> impl Iterator<Item = (Which, &UnixStream)> {
        let waiting = self.waiting.iter();
        let waiting = waiting.map(|one| (Which::Waiting(one.process.pid), &one.process.control));
        let becoming = self.becoming.iter();
        waiting.chain(becoming.map(|(id, one)| (Which::Becoming(*id), &one.process.control)))
    }

    /// Their processes.
    pub(super) fn pids(&self) -> impl Iterator<Item = Pid> {
        let all = self.waiting.iter().chain(self.becoming.values());
        all.map(|one| one.process.pid)
    }

    /// Whether one more should wait.
    pub(super) fn lack(&self) -> bool {
        self.waiting.len() < self.wanted
    }

    /// Whether starts follow each other so fast that none waits.
    pub(super) fn are_short(&self) -> bool {
        self.wanted > FEWEST && self.waiting.is_empty()
    }

    /// All groups, when the launcher ends.
    pub(super) fn into_groups(self) -> impl Iterator<Item = Group> {
        let all = self.waiting.into_iter().chain(self.becoming.into_values());
        all.map(|one| one.group)
    }
}

impl Server {
    /// Has a spare become the instance `id`; that it has, or why not, is said later.
    pub(super) fn call(&mut self, id: u64, command: Command) -> io::Result<()> {
        let more = usize::from(self.spares.waiting.is_empty());
        self.spares.wanted = (self.spares.wanted + more).clamp(FEWEST, MOST);
        let spare = match self.spares.waiting.pop_front() {
            Some(spare) => spare,
            None => self.make_spare().map_err(ours)?,
        };
        let (is_template, forks) = (command.template, command.forks);
        let told = self.groups.limit(&spare.group, &command.limits);
        let told = told.and_then(|()| {
            let calling = Calling {
                id,
                mark: self.me.mark(id),
                command,
                enforcement: self.enforcement,
            };
            let mut control = &spare.process.control;
            control.set_write_timeout(Some(PATIENCE))?;
            control.write_all(&frame::encode(&calling)?)
        });
        if let Err(error) = told {
            self.end_spare(spare.process.pid, spare.group);
            return Err(ours(error));
        }
        if !is_template {
            self.spares.becoming.insert(id, spare);
            return Ok(());
        }
        // The socket becomes its standard input. Why it fails, if it does, it says where its program would have.
        let Spare { process, group } = spare;
        self.forks.add(id, process.control, forks);
        let pipes = [&process.stdout, &process.stderr];
        self.started(id, process.pid, pipes, Some(group))
    }

    /// A spare has become what it was told (its socket closes when its program begins), says why not, or is gone.
    pub(super) fn hear_spare(&mut self, which: Which) -> io::Result<()> {
        let id = match which {
            Which::Becoming(id) => id,
            Which::Waiting(pid) => {
                let place = self.spares.waiting.iter();
                let place = { place }.position(|one| one.process.pid == pid);
                if let Some(gone) = place.and_then(|place| self.spares.waiting.remove(place)) {
                    self.end_spare(pid, gone.group);
                    // Another would most likely end the same way; what is started next is another try.
                    self.spares.wanted = 0;
                }
                return Ok(());
            }
        };
        let Some(Spare { process, group }) = self.spares.becoming.remove(&id) else {
            return Ok(());
        };
        let Forked {
            pid,
            control,
            stdout,
            stderr,
        } = process;
        let mut receiver = Receiver::new(control);
        if let Ok(false) = receiver.fill() {
            return self.started(id, pid, [&stdout, &stderr], Some(group));
        }
        self.end_spare(pid, group);
        match receiver.take() {
            Ok(Some(Failure { missing, reason })) => self.say_failed(id, missing, reason),
            _ => self.failed(id, &io::ErrorKind::InvalidData.into()),
        }
    }

    /// Makes one more, to be called when nobody waits for anything.
    pub(super) fn refill_spares(&mut self) {
        match self.make_spare() {
            Ok(spare) => self.spares.waiting.push_back(spare),
            // What is started next says why.
            Err(_) => self.spares.wanted = 0,
        }
    }

    fn make_spare(&mut self) -> io::Result<Spare> {
        self.spares.made += 1;
        let mark = self.me.mark_of_spare(self.spares.made);
        let group = self.groups.make(&mark)?;
        let mut group = group.ok_or(io::ErrorKind::Unsupported)?;
        let doors = group.doors();
        match doors.and_then(|doors| spawn::fork(|life| live(life, &doors))) {
            Ok(process) => Ok(Spare { process, group }),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    fn end_spare(&mut self, pid: Pid, group: Group) {
        // It may not lead a session of its own yet.
        kill_group(pid, Signal::Kill);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        self.remains.push(group);
    }
}

/// "Not found" is said of programs: whatever else lacks is not that.
fn ours(error: io::Error) -> io::Error {
    io::Error::other(error.to_string())
}

/// What a spare does: returns only when it did not become anything, and says whether nobody wanted it to.
fn live(life: &spawn::Life, doors: &[OwnedFd]) -> bool {
    let mut control = &life.control;
    let failed = |error: &io::Error| Failure {
        missing: error.kind() == io::ErrorKind::NotFound,
        reason: error.to_string(),
    };
    let told = enter(life, doors).and_then(|()| {
        // Whether it goes well does not matter: what comes later does the same for good.
        let _ = rehearse();
        hear(&life.control)
    });
    let failure = match told {
        Ok(None) => return true,
        Ok(Some(calling)) => {
            let Err(error) = become_it(&calling, &life.control);
            if calling.command.template {
                eprintln!("{error}");
                return false;
            }
            failed(&error)
        }
        Err(error) => failed(&ours(error)),
    };
    if let Ok(frame) = frame::encode(&failure) {
        let _ = control.write_all(&frame);
    }
    false
}

fn enter(life: &spawn::Life, doors: &[OwnedFd]) -> io::Result<()> {
    spawn::leave_home(life.launcher)?;
    for door in doors {
        rustix::io::write(door, b"0")?;
    }
    spawn::becomes(&File::open("/dev/null")?, 0)?;
    spawn::becomes(&life.stdout, 1)?;
    spawn::becomes(&life.stderr, 2)?;
    spawn::close_all_but(&life.control);
    Ok(())
}

/// Does all that is to come once for nothing, while nobody waits: a fork finds its memory missing wherever it comes for the
/// first time, which is more than half of the time from being told what it is to `execve`.
fn rehearse() -> io::Result<()> {
    let mut command = Command::new("/dev/null/nothing", "/");
    command.env = (0..32)
        .map(|n| (format!("NAME_{n}"), format!("value {n}")))
        .collect();
    let calling = Calling {
        id: 0,
        mark: String::new(),
        command,
        enforcement: Enforcement::default(),
    };
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(&frame::encode(&calling)?)?;
    let told = hear(&ours)?;
    told.map_or(Ok(()), |told| {
        // There is no such program.
        Err(spawn::program(&told.command, &told.mark).exec())
    })
}

/// Waits for what it is; nothing when the launcher is gone.
fn hear(control: &UnixStream) -> io::Result<Option<Calling>> {
    let mut receiver = Receiver::new(control.try_clone()?);
    loop {
        if let Some(calling) = receiver.take()? {
            return Ok(Some(calling));
        }
        if !receiver.fill()? {
            return Ok(None);
        }
    }
}

fn become_it(calling: &Calling, control: &UnixStream) -> io::Result<Infallible> {
    let Calling {
        id,
        mark,
        command,
        enforcement,
    } = calling;
    if command.template {
        spawn::becomes(control, 0)?;
    }
    let rules = Rules::new(*id, &command.limits, enforcement);
    rules.enter().map_err(ours)?;
    Err(spawn::program(command, mark).exec())
}
