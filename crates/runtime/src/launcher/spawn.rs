//! Starting one program from the launcher, forking the launcher itself, and hearing of the end of both: what needs
//! `unsafe` in this room.
#![allow(unsafe_code)]

use std::{
    io,
    mem::ManuallyDrop,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{self, Stdio},
};

use rustix::process::{Pid, Signal};

use super::{MARK, command::Command, os, rules::Rules};

/// A program that was just started.
pub(super) struct Spawned {
    pub(super) pid: Pid,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// A template's own end of its standard input.
    pub(super) control: Option<UnixStream>,
}

/// Starts a program as the leader of a session of its own, within `rules`. The caller waits for its end.
pub(super) fn spawn(command: &Command, mark: &str, rules: Rules) -> io::Result<Spawned> {
    let (control, stdin) = if command.template {
        let (ours, theirs) = UnixStream::pair()?;
        (Some(ours), Stdio::from(OwnedFd::from(theirs)))
    } else {
        (None, Stdio::null())
    };
    let mut program = program(command, mark);
    program
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let launcher = rustix::process::getpid();
    // SAFETY: the launcher has one thread, so no lock is held across the fork; the closure only makes system calls.
    unsafe { program.pre_exec(move || prepare(launcher, &rules)) };
    let mut child = program.spawn()?;
    let taken = (child.stdout.take(), child.stderr.take());
    let (Some(stdout), Some(stderr)) = taken else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    Ok(Spawned {
        pid: Pid::from_child(&child),
        stdout: stdout.into(),
        stderr: stderr.into(),
        control,
    })
}

/// A pipe that becomes readable when a child ends. From then on the launcher ignores the signals that ask a whole
/// session or service to end: the server decides when that is. What it starts has all signals at their defaults.
pub(super) fn listen_to_signals() -> io::Result<io::PipeReader> {
    let (ends, announce) = io::pipe()?;
    rustix::io::ioctl_fionbio(&announce, true)?;
    // SAFETY: both handlers only do what is safe in a signal: at most one `write`, whose failure (a full pipe) means
    // that a wake-up is already waiting.
    unsafe {
        signal_hook_registry::register(Signal::CHILD.as_raw(), move || {
            let _ = rustix::io::write(&announce, &[0]);
        })?;
        for ignored in [Signal::TERM, Signal::INT, Signal::HUP] {
            signal_hook_registry::register(ignored.as_raw(), || {})?;
        }
    }
    Ok(ends)
}

/// The program of `command`, with its arguments, environment and folder.
pub(super) fn program(command: &Command, mark: &str) -> process::Command {
    let mut program = process::Command::new(&command.program);
    program
        .args(&command.args)
        .env_clear()
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .env(MARK, mark)
        .current_dir(&command.cwd);
    program
}

/// A fork of the launcher, as the launcher has it.
pub(super) struct Forked {
    pub(super) pid: Pid,
    pub(super) control: UnixStream,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// The same as the fork has it: the other ends.
pub(super) struct Life {
    pub(super) launcher: Pid,
    pub(super) control: UnixStream,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Forks the launcher; the fork lives `life`, which says whether all went well, and ends.
pub(super) fn fork(life: impl FnOnce(&Life) -> bool) -> io::Result<Forked> {
    let (control, theirs) = UnixStream::pair()?;
    let (stdout, out) = io::pipe()?;
    let (stderr, err) = io::pipe()?;
    let launcher = rustix::process::getpid();
    let pid = fork_with(|| {
        // Never dropped: some of it is closed by then.
        let own = ManuallyDrop::new(Life {
            launcher,
            control: theirs,
            stdout: out.into(),
            stderr: err.into(),
        });
        life(&own)
    })?;
    Ok(Forked {
        pid,
        control,
        stdout: stdout.into(),
        stderr: stderr.into(),
    })
}

/// Forks the launcher; the fork does `work`, which says whether it went well, and ends.
pub(super) fn fork_with(work: impl FnOnce() -> bool) -> io::Result<Pid> {
    // SAFETY: the launcher has one thread, so no lock is held across the fork, and the copy may do what the launcher may.
    match unsafe { libc::fork() } {
        0 => process::exit(i32::from(!work())),
        pid => Pid::from_raw(pid.max(0)).ok_or_else(io::Error::last_os_error),
    }
}

/// Closes what the launcher had open, beside the three standard ones and `kept`. What they belonged to must not be
/// dropped afterwards.
pub(super) fn close_all_but(kept: &UnixStream) {
    let kept = kept.as_raw_fd().unsigned_abs();
    for (first, last) in [(3, kept.saturating_sub(1)), (kept + 1, u32::MAX)] {
        #[cfg(target_os = "linux")]
        if first <= last {
            // SAFETY: closes descriptors of this process only, of which nobody uses any from here on. Where the
            // kernel does not know the call, the program's start closes them.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (first, last);
    }
}

/// Makes a descriptor one of the three standard ones, which its program keeps.
pub(super) fn becomes(kept: &impl AsRawFd, standard: i32) -> io::Result<()> {
    // SAFETY: what was open under that number is a standard stream of this process, which nothing owns.
    match unsafe { libc::dup2(kept.as_raw_fd(), standard) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// How long a turn on a CPU is for what answers while others compute (200 µs; the kernel's own is about 3 ms).
///
/// Linux lets a thread finish its turn before one that wakes up gets its own, except where that one's are shorter
/// (since 6.12; before, this changes nothing). How much CPU each gets does not depend on it.
const SHORT: u64 = 200_000;

/// Makes turns of the calling thread short, or as usual again; threads and processes that it starts inherit that.
pub(super) fn take_turns(short: bool) {
    #[cfg(target_os = "linux")]
    {
        // sched_setattr(2): the nice value is set with it.
        #[repr(C)]
        struct Attributes {
            size: u32,
            policy: u32,
            flags: u64,
            nice: i32,
            priority: u32,
            runtime: u64,
            deadline: u64,
            period: u64,
        }
        let attributes = Attributes {
            size: u32::try_from(size_of::<Attributes>()).expect("a few bytes"),
            policy: 0,
            flags: 0,
            nice: rustix::process::getpriority_process(None).unwrap_or(0),
            priority: 0,
            runtime: if short { SHORT } else { 0 },
            deadline: 0,
            period: 0,
        };
        // SAFETY: the kernel reads as many bytes as `size` says, and this thread lives.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = short;
}

/// Makes the calling process the leader of a session of its own that ends with the launcher.
pub(super) fn leave_home(launcher: Pid) -> io::Result<()> {
    rustix::process::setsid()?;
    os::die_with_parent()?;
    // The launcher may have ended before the line above: then nobody would kill this.
    if cfg!(target_os = "linux") && rustix::process::getppid() != Some(launcher) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

fn prepare(launcher: Pid, rules: &Rules) -> io::Result<()> {
    leave_home(launcher)?;
    rules.enter()
}
