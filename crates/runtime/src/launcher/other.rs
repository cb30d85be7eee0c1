//! What the launcher needs of systems other than Linux (macOS): `ps`, and waiting in small steps.
//!
//! There is no adoption of orphans here and no look into environments: what left its process group is not found.

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    process::Command,
    time::Duration,
};

use rustix::process::{Pid, Signal};

use super::record::Identity;

/// A process that is alive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// Its process group: what the launcher starts leads both.
    pub(crate) session: i32,
    /// A hash of what `ps` prints: only equality means something.
    pub(crate) start: u64,
    /// Hundredths of seconds of CPU; not measured here.
    pub(crate) ticks: u64,
    /// The same of children that ended; not measured here.
    pub(crate) waited: u64,
    /// Resident bytes.
    pub(crate) memory: u64,
}

/// A text that changes with every boot.
pub(super) fn boot_id() -> String {
    output("sysctl", &["-n", "kern.boottime"])
        .split_whitespace()
        .collect::<Vec<_>>()
        .join("_")
}

/// What tells a process from a later one of the same id.
pub(super) fn start_time(pid: i32) -> Option<u64> {
    process(pid).map(|process| process.start)
}

/// One process.
pub(crate) fn process(pid: i32) -> Option<Process> {
    parse(output("ps", &["-o", COLUMNS, "-p", &pid.to_string()]).trim())
}

/// All processes.
pub(crate) fn processes() -> Vec<Process> {
    output("ps", &["-axo", COLUMNS])
        .lines()
        .filter_map(parse)
        .collect()
}

const COLUMNS: &str = "pid=,ppid=,pgid=,rss=,state=,lstart=";

fn parse(line: &str) -> Option<Process> {
    let mut fields = line.split_ascii_whitespace();
    let mut number = || fields.next()?.parse().ok();
    let (pid, parent, session) = (number()?, number()?, number()?);
    let memory: u64 = fields.next()?.parse().ok()?;
    if fields.next()?.starts_with('Z') {
        return None;
    }
    let mut start = DefaultHasher::new();
    fields.for_each(|field| field.hash(&mut start));
    Some(Process {
        pid,
        parent,
        session,
        start: start.finish(),
        ticks: 0,
        waited: 0,
        memory: memory * 1024,
    })
}

/// Environments of others are not readable here.
pub(super) fn mark_of(_pid: i32) -> Option<String> {
    None
}

/// Nothing is adopted here, so nothing has to be looked for.
pub(super) const fn children() -> BTreeSet<i32> {
    BTreeSet::new()
}

/// The children of a process.
pub(crate) fn children_of(pid: i32) -> BTreeSet<i32> {
    processes()
        .into_iter()
        .filter(|process| process.parent == pid)
        .map(|process| process.pid)
        .collect()
}

/// Kills one process and what is left of the group that it leads, and waits for its end up to `patience`.
pub(super) fn kill(identity: Identity, patience: Duration) -> bool {
    let Some(pid) = Pid::from_raw(identity.pid) else {
        return false;
    };
    if start_time(identity.pid) != Some(identity.start) {
        return false;
    }
    let _ = rustix::process::kill_process(pid, Signal::KILL);
    for _ in 0..patience.as_millis() / 10 {
        if start_time(identity.pid) != Some(identity.start) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Not offered here.
pub(super) const fn adopt_orphans() {}

/// Not offered here.
pub(super) const fn die_with_parent() -> rustix::io::Result<()> {
    Ok(())
}

/// Processes cannot be kept on some CPUs here.
pub(super) struct CpuSet;

/// CPUs of the machine.
pub(super) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

/// Not offered here.
pub(super) const fn some_cpus(_most: u32, _first: u64) -> Option<CpuSet> {
    None
}

/// Not offered here.
pub(super) const fn run_on(_cpus: &CpuSet) -> rustix::io::Result<()> {
    Ok(())
}

/// Not asked for here.
pub(super) const fn tasks_of_user() -> u64 {
    0
}

fn output(program: &str, args: &[&str]) -> String {
    Command::new(program)
        .args(args)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}
