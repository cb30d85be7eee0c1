//! The CPU clock of another process, in nanoseconds: what `/proc` says of it is in steps of 10 ms, in which a function that works for one
//! millisecond would have used nothing.
#![allow(unsafe_code)]

use std::time::Duration;

/// User and system time of all threads of the process `pid` since its start (POSIX `clock_getcpuclockid`); `None`: there is no such process,
/// or the system does not say.
#[cfg(target_os = "linux")]
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    // Of 0 it would be this process.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let mut clock = 0;
    // SAFETY: the call writes a clock's number to the place that it is given, which outlives it, and has no other effect.
    let found = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if found != 0 {
        return None;
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: as above, with a time; a clock whose process has ended meanwhile is an error.
    let read = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if read != 0 {
        return None;
    }
    let (seconds, nanos) = (
        u64::try_from(time.tv_sec).ok()?,
        u32::try_from(time.tv_nsec).ok()?,
    );
    Some(Duration::new(seconds, nanos))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn cpu_time(_: u32) -> Option<Duration> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn it_is_finer_than_the_ticks_of_the_system() {
        let own = || cpu_time(std::process::id()).expect("it runs");
        let before = own();
        // Until some of it has passed, however fast the machine is.
        let mut steps = 0_u64;
        let mut after = before;
        while after == before {
            steps = std::hint::black_box(steps + 1);
            after = own();
        }
        assert!(after > before);
        assert_ne!(after.subsec_nanos() % 10_000_000, 0, "no tick: {after:?}");
        assert_eq!((cpu_time(0), cpu_time(u32::MAX)), (None, None));
    }
}
