//! Starting one program from the launcher, and hearing of its end: what needs `unsafe` in this room.
#![allow(unsafe_code)]

use std::{
    io,
    os::{
        fd::OwnedFd,
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
    let mut program = process::Command::new(&command.program);
    program
        .args(&command.args)
        .env_clear()
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .env(MARK, mark)
        .current_dir(&command.cwd)
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

fn prepare(launcher: Pid, rules: &Rules) -> io::Result<()> {
    rustix::process::setsid()?;
    os::die_with_parent()?;
    // The launcher may have ended before the line above: then nobody would kill this.
    if cfg!(target_os = "linux") && rustix::process::getppid() != Some(launcher) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    rules.enter()
}
