//! What an instance uses, as the system counts it: its first process and all of that one's descendants.

use std::time::Duration;

use super::clock;
use crate::launcher::os;

/// The system's unit of CPU time in `/proc` (`USER_HZ`), the same on every Linux that Tangelo runs on.
const TICK: Duration = Duration::from_millis(10);

/// What processes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// User and system time since their start, of ended children included; zero where the system does not say.
    pub cpu: Duration,
    /// Resident bytes now; memory that several share counts for each.
    pub memory: u64,
}

/// Measures the process `pid` and its descendants; nothing when it is gone.
#[must_use]
pub fn measure(pid: u32) -> Measured {
    let mut measured = Measured::default();
    let mut left: Vec<i32> = i32::try_from(pid).into_iter().collect();
    let mut seen = 0;
    // A fork bomb is not followed for ever.
    while let Some(pid) = left.pop()
        && seen < 10_000
    {
        seen += 1;
        if let Some(process) = os::process(pid) {
            let ticks = |ticks: u64| TICK * u32::try_from(ticks).unwrap_or(u32::MAX);
            let own = u32::try_from(pid).ok().and_then(clock::cpu_time);
            measured.cpu += own.unwrap_or_else(|| ticks(process.ticks)) + ticks(process.waited);
            measured.memory += process.memory;
            left.extend(os::children_of(pid));
        }
    }
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_no_process_none() {
        assert!(measure(std::process::id()).memory > 0);
        assert_eq!(measure(u32::MAX), Measured::default());
    }
}
