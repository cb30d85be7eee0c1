//! What the launcher needs of Linux: `/proc`, pidfds, and the two settings that leave no process behind.

use std::{collections::BTreeSet, fs, io::Read, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, PidfdFlags, Signal},
};

use super::{MARK, record::Identity};

/// The most of an environment that is searched.
const MAX_ENVIRONMENT: u64 = 4 << 20;

/// A process that is alive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) session: i32,
    /// In clock ticks since the boot.
    pub(crate) start: u64,
    /// Its user and system time, in clock ticks.
    pub(crate) ticks: u64,
    /// Those of the children that it waited for.
    pub(crate) waited: u64,
    /// Resident bytes.
    pub(crate) memory: u64,
}

/// A number that changes with every boot.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// When a process started; `None` when there is none that is alive.
pub(super) fn start_time(pid: i32) -> Option<u64> {
    process(pid).map(|process| process.start)
}

/// One process; `None` when there is none, or when it ended and was not yet waited for.
pub(crate) fn process(pid: i32) -> Option<Process> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// All processes.
pub(crate) fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(process)
        .collect()
}

/// Reads `/proc/PID/stat` (proc(5)): the name in brackets may hold anything, so fields count from the last bracket.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    if matches!(fields.first(), None | Some(&("Z" | "X"))) {
        return None;
    }
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start: number(19)?,
        ticks: (11..=12).filter_map(number).sum(),
        waited: (13..=14).filter_map(number).sum(),
        memory: number(21)? * rustix::param::page_size() as u64,
    })
}

/// The mark in a process's environment.
pub(super) fn mark_of(pid: i32) -> Option<String> {
    variable(pid, MARK)
}

/// A variable of the environment that a process was started with.
pub(super) fn variable(pid: i32, name: &str) -> Option<String> {
    let mut environment = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(MAX_ENVIRONMENT)
        .read_to_end(&mut environment)
        .ok()?;
    environment.split(|&byte| byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

/// The children of this process, zombies included.
pub(super) fn children() -> BTreeSet<i32> {
    children_of(rustix::process::getpid().as_raw_pid())
}

/// The children of a process, whichever of its threads made them, zombies included.
pub(crate) fn children_of(pid: i32) -> BTreeSet<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return BTreeSet::new();
    };
    let lists: Result<Vec<String>, _> = threads
        .filter_map(Result::ok)
        .map(|thread| fs::read_to_string(thread.path().join("children")))
        .collect();
    if let Ok(lists) = lists {
        return lists
            .iter()
            .flat_map(|list| list.split_ascii_whitespace())
            .filter_map(|child| child.parse().ok())
            .collect();
    }
    processes()
        .into_iter()
        .filter(|process| process.parent == pid)
        .map(|process| process.pid)
        .collect()
}

/// Kills one process, unless its id belongs to another by now, and waits for its end up to `patience`.
/// Returns whether it was there.
pub(super) fn kill(identity: Identity, patience: Duration) -> bool {
    let Some(pid) = Pid::from_raw(identity.pid) else {
        return false;
    };
    // The descriptor is taken first, so that what is checked next is what is killed.
    let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    if start_time(identity.pid) != Some(identity.start)
        || rustix::process::pidfd_send_signal(&handle, Signal::KILL).is_err()
    {
        return false;
    }
    let patience = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    let mut ended = [PollFd::new(&handle, PollFlags::IN)];
    let _ = rustix::event::poll(&mut ended, Some(&patience));
    true
}

/// Descendants that lose their parent become children of this process.
pub(super) fn adopt_orphans() {
    // Any non-zero value turns it on. Where the kernel refuses, the mark still finds them.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// The calling process is killed when its parent ends.
pub(super) fn die_with_parent() -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
}

/// CPUs that a process may run on.
pub(super) use rustix::thread::CpuSet;

/// CPUs that this process may run on.
pub(super) fn cpus() -> u32 {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count())
}

/// `most` of the CPUs that this process may run on, from the one numbered `first` on and round; `None` when it has no
/// more than those.
pub(super) fn some_cpus(most: u32, first: u64) -> Option<CpuSet> {
    let all = rustix::thread::sched_getaffinity(None).ok()?;
    let all: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&cpu| all.is_set(cpu))
        .collect();
    let most = usize::try_from(most)
        .ok()
        .filter(|most| *most < all.len())?;
    let first = usize::try_from(first).unwrap_or_default() % all.len();
    let mut some = CpuSet::new();
    let chosen = all.iter().cycle().skip(first).take(most);
    chosen.for_each(|&cpu| some.set(cpu));
    Some(some)
}

/// Keeps the calling process on these.
pub(super) fn run_on(cpus: &CpuSet) -> rustix::io::Result<()> {
    rustix::thread::sched_setaffinity(None, cpus)
}

/// Keeps another process, with all of its threads, on these.
pub(super) fn all_run_on(pid: Pid, cpus: &CpuSet) -> rustix::io::Result<()> {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", pid.as_raw_pid())) else {
        return Err(rustix::io::Errno::SRCH);
    };
    let threads = threads.filter_map(|thread| thread.ok()?.file_name().to_str()?.parse().ok());
    threads
        .filter_map(Pid::from_raw)
        .try_for_each(|thread| rustix::thread::sched_setaffinity(Some(thread), cpus))
}

/// How many processes and threads the user of this process has.
pub(super) fn tasks_of_user() -> u64 {
    use std::os::unix::fs::MetadataExt;
    let user = rustix::process::getuid().as_raw();
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0;
    };
    let own = entries.filter_map(Result::ok).filter(|entry| {
        let is_process = entry.file_name().as_encoded_bytes()[0].is_ascii_digit();
        is_process && entry.metadata().is_ok_and(|meta| meta.uid() == user)
    });
    own.filter_map(|entry| fs::read_dir(entry.path().join("task")).ok())
        .map(|tasks| tasks.count() as u64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let rest = "1 2 3 0 -1 4194560 0 0 0 0 7 8 9 10 20 0 1 0 4242 999 12 0";
        let stat = format!("77 (a) b) S {rest}");
        let process = parse(77, &stat).expect("well formed");
        assert_eq!(
            (
                process.parent,
                process.session,
                process.start,
                process.ticks,
                process.waited
            ),
            (1, 3, 4242, 15, 19)
        );
        assert!(parse(77, &format!("77 (a) Z {rest}")).is_none());
        assert!(parse(77, "77 (a)").is_none());
    }

    #[test]
    fn some_cpus_are_fewer_than_all_and_neighbours_share_the_load() {
        let all = cpus();
        assert!(some_cpus(all, 0).is_none());
        if all > 1 {
            let some = [0, 1].map(|first| some_cpus(1, first).expect("there are more"));
            assert_eq!(some.map(|set| set.count()), [1, 1]);
            assert_ne!(some[0], some[1]);
        }
        assert!(tasks_of_user() > 0);
    }

    #[test]
    fn this_process_is_among_all() {
        let me = i32::try_from(std::process::id()).expect("small");
        assert!(processes().iter().any(|process| process.pid == me));
        assert!(start_time(me).is_some());
    }
}
