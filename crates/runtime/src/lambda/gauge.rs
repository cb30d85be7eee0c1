//! What a process, or one and all that it started, has used, read from the system: CPU time and resident memory. Elsewhere than on
//! Linux, nothing.

use std::time::Duration;

use parking_lot::Mutex;

use crate::process::{Measured, cpu_time, measure};

/// Reads the counters of an instance.
pub(crate) struct Gauge {
    of: Of,
    seen: Mutex<Duration>,
}

enum Of {
    /// One process, cheaply: the file stays open.
    One(u32, Option<std::fs::File>),
    /// A process and its descendants: an instance whose extensions run beside its runtime.
    All(u32),
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Used {
    /// CPU time of all its threads since its start.
    pub(crate) cpu: Duration,
    /// Resident bytes now.
    pub(crate) memory: u64,
}

impl Gauge {
    /// Of the process `pid`; with `others`, of its descendants, too.
    pub(crate) fn new(pid: u32, others: bool) -> Self {
        let file = || std::fs::File::open(format!("/proc/{pid}/statm")).ok();
        Self {
            of: if others {
                Of::All(pid)
            } else {
                Of::One(pid, file())
            },
            seen: Mutex::default(),
        }
    }

    /// What is used now; nothing when the process is gone.
    pub(crate) fn read(&self) -> Option<Used> {
        let (pid, file) = match &self.of {
            Of::One(pid, file) => (*pid, file.as_ref()?),
            Of::All(pid) => {
                let Measured { cpu, memory } = measure(*pid);
                return (memory > 0).then_some(Used { cpu, memory });
            }
        };
        let mut buffer = [0; 256];
        let length = rustix::io::pread(file, &mut buffer, 0).ok()?;
        let memory = resident(std::str::from_utf8(&buffer[..length]).ok()?)?;
        // The file was there: the process is this one, or has ended just now and is not waited for.
        let cpu = cpu_time(pid)?;
        Some(Used { cpu, memory })
    }

    /// The CPU time that was seen in all.
    pub(crate) fn seen(&self) -> Duration {
        *self.seen.lock()
    }

    /// The CPU time since this was last asked, and the memory now. Of an instance of several
    /// processes a single one is as coarse as the system's ticks (10 ms) where children ended; the sum over all times is exact.
    pub(crate) fn since_last(&self) -> Option<Used> {
        let used = self.read()?;
        let mut seen = self.seen.lock();
        let cpu = used.cpu.saturating_sub(*seen);
        // What nobody waited for is not counted any more when it has ended, and not counted again when others come.
        *seen = used.cpu.max(*seen);
        Some(Used { cpu, ..used })
    }
}

/// Field 2 (pages) of `/proc/PID/statm`, which costs a quarter of `stat`.
fn resident(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_resident_is_the_second_field() {
        let pages = resident("2510 250 90 1 0 300 0\n").expect("is a statm line");
        assert_eq!(pages, 250 * rustix::param::page_size() as u64);
        assert_eq!((resident("2510"), resident("")), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory() {
        let used = Gauge::new(std::process::id(), false)
            .read()
            .expect("it runs");
        assert!(used.memory > 0);
    }
}
