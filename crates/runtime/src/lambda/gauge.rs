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
        let file = || std::fs::File::open(format!("/proc/{pid}/stat")).ok();
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
        let mut buffer = [0; 1024];
        let length = rustix::io::pread(file, &mut buffer, 0).ok()?;
        let used = parse(std::str::from_utf8(&buffer[..length]).ok()?)?;
        // The file was there: the process is this one, or has ended just now and is not waited for.
        Some(Used {
            cpu: cpu_time(pid).unwrap_or(used.cpu),
            ..used
        })
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

/// Fields 14, 15 (ticks of 10 ms) and 24 (pages) of `/proc/PID/stat`; the name in field 2 may hold anything.
fn parse(stat: &str) -> Option<Used> {
    let mut fields = stat.rsplit_once(") ")?.1.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let pages: u64 = fields.nth(8)?.parse().ok()?;
    Some(Used {
        cpu: Duration::from_millis((user + system) * 10),
        memory: pages * rustix::param::page_size() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_after_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 12 3 0 0 20 0 1 0 500 10000000 250 18446744073709551615";
        let used = parse(stat).expect("is a stat line");
        assert_eq!(used.cpu, Duration::from_millis(150));
        assert_eq!(used.memory, 250 * rustix::param::page_size() as u64);
        assert_eq!(parse("7 (x"), None);
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
